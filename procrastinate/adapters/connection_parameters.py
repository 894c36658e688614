"""psycopg's connection parameters: read from what users give, with the defaults that a long-lived connection needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

# A peer that is gone without a word (a failed host, a firewall that forgot the connection) is noticed within
# about a minute, instead of the kernel's two hours. libpq ignores these on Unix sockets.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-KEEPALIVES
_KEEPALIVE: Mapping[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_CONNECT_TIMEOUT = 10

# What changes how rows are read, or who commits, is the engine's business.
_NOT_FOR_ENGINES = {"autocommit", "context", "cursor_factory", "row_factory", "server_cursor_factory"}

_SHOWN = ("service", "host", "hostaddr", "port", "dbname", "user")


def parse_conninfo(conninfo: str) -> dict[str, Any]:
    """The parameters in a libpq connection string or URL.

    Raises
    ------
    ValueError
        It cannot be read. The message does not repeat it: it may hold a password.
    """
    try:
        return dict(conninfo_to_dict(conninfo))
    except psycopg.Error:
        raise ValueError(
            "The connection string cannot be read: write it as 'host=... dbname=...' or as "
            "postgresql://user:password@host:port/dbname, with special characters percent-encoded"
        ) from None


def connection_parameters(given: Mapping[str, Any] | str) -> dict[str, Any]:
    """One flat dictionary of what psycopg connects with.

    Parameters
    ----------
    given:
        A connection string, or arguments of :func:`psycopg.connect`, ``conninfo`` among them or not.
    """
    if isinstance(given, str):
        given = {"conninfo": given}
    parameters = {name: value for name, value in given.items() if name != "conninfo"}
    return parse_conninfo(given.get("conninfo") or "") | without_unset(parameters)


def without_unset(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that have a value. ``prepare_threshold=None`` is one: never prepare."""
    return {name: value for name, value in parameters.items() if value is not None or name == "prepare_threshold"}


def long_lived(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with defaults by which a lost peer is noticed; what the user has set stays."""
    defaults = dict(_KEEPALIVE)
    if "PGCONNECT_TIMEOUT" not in os.environ:
        defaults["connect_timeout"] = _CONNECT_TIMEOUT
    return {**defaults, **{name: value for name, value in parameters.items() if name not in _NOT_FOR_ENGINES}}


def describe(parameters: Mapping[str, Any]) -> str:
    """Where the parameters lead, for a ``repr``: never a password, nor anything unknown."""
    return ", ".join(f"{name}={parameters[name]!r}" for name in _SHOWN if parameters.get(name))
