"""psycopg's connection parameters: read from what users give, with the defaults that a long-lived connection needs."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

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

_ENCODING = "utf8"
"""psycopg gives bytes for text where the server converts nothing: in a database in SQL_ASCII, without this."""

# What changes how rows are read, or who commits, is the engine's business.
_NOT_FOR_ENGINES = {"autocommit", "context", "cursor_factory", "row_factory", "server_cursor_factory"}

_NOT_LIBPQ = {
    "autocommit",
    "client_encoding",
    "context",
    "cursor_factory",
    "prepare_threshold",
    "row_factory",
    "server_cursor_factory",
}
_PLACE = {"host", "hostaddr", "port"}

_PORTS = re.compile(r"[\d,]*")
"""libpq takes what comes before a slash in a password for the port, and says so when it connects."""

_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'")
_NAMES = re.compile(r"(?:^|\s)(\w+)\s*=")

_SHOWN = ("service", "host", "hostaddr", "port", "dbname", "user")


def parse_conninfo(conninfo: str) -> dict[str, Any]:
    """The parameters in a libpq connection string or URL.

    Raises
    ------
    ValueError
        It cannot be read. The message does not repeat it: it may hold a password.
    """
    try:
        parameters = dict(conninfo_to_dict(conninfo))
    except psycopg.Error:
        parameters = None
    if parameters is None or not _PORTS.fullmatch(str(parameters.get("port", ""))):
        raise ValueError(_why_unreadable(conninfo))
    return parameters


_UNKNOWN = "The connection string has the parameter {!r}, which PostgreSQL's client library does not know: leave it out"


def require_known_in_url(parameters: Mapping[str, Any]) -> None:
    """Refuse what :func:`psycopg.connect` does not take, in parameters that come from a URL.

    Raises
    ------
    ValueError
        It names the first that is unknown.
    """
    for name in parameters:
        if not is_known(name):
            raise ValueError(_UNKNOWN.format(name))


def _why_unreadable(conninfo: str) -> str:
    unknown = _first_unknown(conninfo)
    if unknown is not None:
        return _UNKNOWN.format(unknown)
    return (
        "The connection string cannot be read: write it as 'host=... dbname=...' or as "
        "postgresql://user:password@host:port/dbname, with special characters percent-encoded"
    )


def _first_unknown(conninfo: str) -> str | None:
    """The first parameter that libpq does not know, where it is surely one, and not a part of a password."""
    if "://" in conninfo:
        _, separator, query = conninfo.rpartition("?")
        if not separator or "@" in query:
            return None
        names = [unquote(part.partition("=")[0]) for part in query.split("&")]
    else:
        names = _NAMES.findall(_QUOTED.sub("''", conninfo))
    before = ""
    for name in names:
        if name not in libpq_names():
            # After a password, it may be the rest of one that has a blank or an ampersand.
            return name if name.isidentifier() and before != "password" else None
        before = name
    return None


@functools.cache
def libpq_names() -> frozenset[str]:
    """The connection parameters that this libpq knows, and ``ssl``, which it takes in a URL."""
    return frozenset(option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()) | {"ssl"}


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


def require_known(parameters: Mapping[str, Any], what: str) -> None:
    """Refuse what :func:`psycopg.connect` does not take.

    Parameters
    ----------
    what:
        What else it could be, for the message: ``"psycopg.connect() nor of its pool"``.

    Raises
    ------
    TypeError
        It names the first that is unknown.
    """
    for name in parameters:
        if not is_known(name):
            raise TypeError(f"{name!r} is neither an argument of {what}")


def is_known(name: str) -> bool:
    """Whether :func:`psycopg.connect` takes an argument of this name."""
    return name in _NOT_LIBPQ or name in libpq_names()


def elsewhere(parameters: Mapping[str, Any], given: Mapping[str, Any] | str) -> dict[str, Any]:
    """The parameters of another way to the same database: those that are given, and the rest as they were.

    Another ``host`` is another place altogether: it takes no port and no address from the first.

    Parameters
    ----------
    given:
        As for :func:`connection_parameters`: what differs.

    Raises
    ------
    TypeError, ValueError
        ``given`` cannot be read, or names nothing. The message does not repeat it: it may hold a password.
    """
    if not isinstance(given, (str, Mapping)):
        raise TypeError(f"A connection string or a dict of connection parameters is needed, not {type(given).__name__}")
    other = connection_parameters(given)
    if not other:
        raise ValueError("The connection parameters are empty: name at least what differs, as in 'host=... port=...'")
    require_known(other, "psycopg.connect() nor a parameter of libpq")
    kept = parameters.keys() - _PLACE if other.keys() & {"host", "hostaddr", "service"} else parameters.keys()
    return {**{name: value for name, value in parameters.items() if name in kept}, **other}


def without_unset(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that have a value. ``prepare_threshold=None`` is one: never prepare."""
    return {name: value for name, value in parameters.items() if value is not None or name == "prepare_threshold"}


def long_lived(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with defaults by which a lost peer is noticed; what the user has set stays.

    The encoding is always UTF-8: the connections are the queue's own, and its values are Unicode.
    """
    defaults = dict(_KEEPALIVE)
    if "PGCONNECT_TIMEOUT" not in os.environ:
        defaults["connect_timeout"] = _CONNECT_TIMEOUT
    given = {name: value for name, value in parameters.items() if name not in _NOT_FOR_ENGINES}
    return {**defaults, **given, "client_encoding": _ENCODING}


def describe(parameters: Mapping[str, Any]) -> str:
    """Where the parameters lead, for a ``repr``: never a password, nor anything unknown."""
    return ", ".join(f"{name}={parameters[name]!r}" for name in _SHOWN if parameters.get(name))
