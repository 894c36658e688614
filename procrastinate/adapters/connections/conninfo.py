"""psycopg's connection parameters: parsed from the user's input, with defaults for long-lived connections."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict

# With keepalives, a dead peer (a failed host, a firewall that dropped the connection) is detected within about
# a minute. The kernel's default is two hours. libpq ignores these settings on Unix sockets.
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
"""Without it, psycopg returns text as bytes from a SQL_ASCII database, in which the server converts nothing."""

# The engine decides how rows are read and who commits.
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
"""libpq parses the part of a password before a slash as the port, and repeats it in its connection error."""

_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'")
_NAMES = re.compile(r"(?:^|\s)(\w+)\s*=")

_SHOWN = ("service", "host", "hostaddr", "port", "dbname", "user")


def parse_conninfo(conninfo: str) -> dict[str, Any]:
    """Parse a libpq connection string or URL into parameters.

    Raises
    ------
    ValueError
        The string cannot be parsed. The message does not repeat it, because it may contain a password.
    """
    try:
        parameters = dict(conninfo_to_dict(conninfo.strip()))
    except psycopg.Error:
        parameters = None
    if parameters is None or not _PORTS.fullmatch(str(parameters.get("port", ""))):
        raise ValueError(_why_unreadable(conninfo))
    return parameters


_EMPTY = (
    "The database URL or connection string is empty. Is a variable not set? "
    "For the database that libpq's environment variables name, write postgresql://"
)
_UNKNOWN = "The connection string has the parameter {!r}, which is unknown to libpq: remove it"


def require_known_in_url(parameters: Mapping[str, Any]) -> None:
    """Refuse parameters from a URL that :func:`psycopg.connect` does not accept.

    Raises
    ------
    ValueError
        A parameter is unknown. The message names the first one.
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
    """Return the first parameter unknown to libpq, or None if it may be part of a password."""
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
            # After a password, the name may be the rest of a password that contains a blank or an ampersand.
            return name if name.isidentifier() and before != "password" else None
        before = name
    return None


@functools.cache
def libpq_names() -> frozenset[str]:
    """Return the connection parameters that this libpq knows, and ``ssl``, which it accepts in a URL."""
    return frozenset(option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()) | {"ssl"}


def connection_parameters(given: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return one flat dictionary of psycopg's connection parameters.

    Parameters
    ----------
    given:
        A connection string, or arguments of :func:`psycopg.connect` with or without ``conninfo``.

    Raises
    ------
    ValueError
        The string is empty or cannot be parsed. libpq would take an empty one for the database of its defaults.
    """
    if isinstance(given, str):
        if not given.strip():
            raise ValueError(_EMPTY)
        given = {"conninfo": given}
    parameters = {name: value for name, value in given.items() if name != "conninfo"}
    return parse_conninfo(given.get("conninfo") or "") | without_unset(parameters)


def require_known(parameters: Mapping[str, Any], what: str) -> None:
    """Refuse parameters that :func:`psycopg.connect` does not accept.

    Parameters
    ----------
    what:
        The end of the error message: ``"psycopg.connect() nor of its pool"``.

    Raises
    ------
    TypeError
        A parameter is unknown. The message names the first one.
    """
    for name in parameters:
        if not is_known(name):
            raise TypeError(f"{name!r} is neither an argument of {what}")


def is_known(name: str) -> bool:
    """Return true if :func:`psycopg.connect` accepts an argument of this name."""
    return name in _NOT_LIBPQ or name in libpq_names()


def elsewhere(parameters: Mapping[str, Any], given: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return parameters for a second route to the same database: ``given`` overrides ``parameters``.

    A new ``host`` is a new server, so it does not inherit the port and the address.

    Parameters
    ----------
    given:
        The parameters that differ, as for :func:`connection_parameters`.

    Raises
    ------
    TypeError, ValueError
        ``given`` is empty or cannot be parsed. The message does not repeat it, because it may contain a password.
    """
    if not isinstance(given, (str, Mapping)):
        raise TypeError(f"Connection parameters must be a connection string or a dict, not {type(given).__name__}")
    other = connection_parameters(given) if given else {}
    if not other:
        raise ValueError(
            "The connection parameters are empty: name at least the parameters that differ, as in 'host=... port=...'"
        )
    require_known(other, "psycopg.connect() nor a parameter of libpq")
    kept = parameters.keys() - _PLACE if other.keys() & {"host", "hostaddr", "service"} else parameters.keys()
    return {**{name: value for name, value in parameters.items() if name in kept}, **other}


def without_unset(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that have a value. ``prepare_threshold=None`` is a value: never prepare."""
    return {name: value for name, value in parameters.items() if value is not None or name == "prepare_threshold"}


def long_lived(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Add defaults by which a connection detects a lost peer. The user's settings take precedence.

    The encoding is always UTF-8, because these connections belong to the queue and its values are Unicode.
    """
    defaults = dict(_KEEPALIVE)
    if "PGCONNECT_TIMEOUT" not in os.environ:
        defaults["connect_timeout"] = _CONNECT_TIMEOUT
    given = {name: value for name, value in parameters.items() if name not in _NOT_FOR_ENGINES}
    return {**defaults, **given, "client_encoding": _ENCODING}


def describe(parameters: Mapping[str, Any]) -> str:
    """Describe the database for a ``repr``, without passwords and unknown parameters."""
    return ", ".join(f"{name}={parameters[name]!r}" for name in _SHOWN if parameters.get(name))
