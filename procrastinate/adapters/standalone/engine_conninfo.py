"""psycopg parameters for a SQLAlchemy engine's database. Workers use psycopg whatever the engine's driver is.

The parameters are the arguments that the driver's ``connect()`` would get, from the URL, ``connect_args`` and
``do_connect`` hooks.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import math
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from procrastinate._text.logs import get_logger
from procrastinate.adapters.connections.connect_args import ConnectArgs
from procrastinate.adapters.connections.conninfo import connection_parameters, describe, without_unset

logger = get_logger(__name__)

Parameters = dict[str, Any]

_HINT = "pass the worker's connection parameters: worker_connect_args={'host': ..., 'dbname': ..., ...}"

_asking: contextvars.ContextVar[bool] = contextvars.ContextVar("procrastinate_asks_how_to_connect", default=False)


class _Asked(Exception):
    """Carries the arguments out of the engine instead of a connection."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__()
        self.parameters = parameters


def engine_connect_args(engine: sa.Engine) -> ConnectArgs:
    """Return :func:`psycopg_parameters` for each new connection, because hooks may return a new password each time.

    Raises
    ------
    ValueError
        The engine's connection parameters cannot be determined.
    """
    described = describe(psycopg_parameters(engine))
    return ConnectArgs(functools.partial(psycopg_parameters, engine), described=described)


def psycopg_parameters(engine: sa.Engine) -> Parameters:
    """Return the arguments for psycopg to reach the engine's database.

    Parameters
    ----------
    engine:
        An engine of psycopg, psycopg2, pg8000 or asyncpg. For an ``AsyncEngine``, its ``sync_engine``. No connection
        is made.

    Raises
    ------
    ValueError
        The engine has a ``creator``, or connects in a way that libpq does not support.
    """
    arguments = _driver_arguments(engine)
    translate = _TRANSLATIONS.get(engine.dialect.driver)
    if translate is None:
        raise ValueError(f"The connection parameters of {engine.dialect.driver} cannot be read; {_HINT}")
    return without_unset(translate(arguments))


def warn_of_listeners(engine: sa.Engine, connections: str) -> None:
    """Name the engine's own listeners of ``connect``: connections that psycopg makes in its place pass them by.

    Listeners of the class ``Engine`` or ``Pool`` are not meant. They hold for all engines, those of a worker included.
    """
    for listener in engine.pool.dispatch.connect.listeners:
        if not listener.__module__.startswith(_LISTENERS_OF_LIBRARIES):
            name = getattr(listener, "__name__", type(listener).__name__)
            logger.warning(
                f"The engine's listener {name} of 'connect' does not hold for {connections}: "
                "put settings into the engine's connect_args, or pass worker_connect_args",
                extra={"action": "listener_without_effect", "listener": name},
            )


_LISTENERS_OF_LIBRARIES = ("sqlalchemy.", "opentelemetry.")
"""The modules of listeners that look at connections and change nothing that the queue needs."""


def _driver_arguments(engine: sa.Engine) -> Parameters:
    if getattr(engine.pool._creator, "__module__", "") != sa.engine.create.__name__:
        raise ValueError(f"The engine has its own creator; {_HINT}")
    # The hook stays, because other threads may be iterating over the hooks. It does nothing unless _asking is set.
    if not sa.event.contains(engine, "do_connect", _answer):
        sa.event.listen(engine, "do_connect", _answer)
    token = _asking.set(True)
    try:
        engine.pool.recreate().connect()
    except _Asked as answer:
        return answer.parameters
    finally:
        _asking.reset(token)
    raise ValueError(f"The engine has a do_connect hook that connects by itself; {_HINT}")


def _answer(_dialect: Any, _record: Any, arguments: list[Any], keywords: Parameters) -> None:
    if _asking.get():
        dsn = {"dsn": arguments[0]} if arguments and arguments[0] else {}
        raise _Asked({**keywords, **dsn})


def _from_psycopg(arguments: Parameters) -> Parameters:
    if "dsn" in arguments:
        arguments = {"conninfo": arguments["dsn"], **arguments}
    not_libpq = {"dsn", "context", "row_factory", "cursor_factory", "autocommit"}
    return connection_parameters({name: value for name, value in arguments.items() if name not in not_libpq})


def _from_psycopg2(arguments: Parameters) -> Parameters:
    not_libpq = {"connection_factory", "cursor_factory", "async", "async_"}
    return _from_psycopg({name: value for name, value in arguments.items() if name not in not_libpq})


def _from_pg8000(arguments: Parameters) -> Parameters:
    socket_folder, socket_port = _split_socket(arguments.get("unix_sock"))
    return {
        "host": socket_folder or arguments.get("host"),
        "port": socket_port or arguments.get("port"),
        "user": arguments.get("user"),
        "password": _text(arguments.get("password")),
        "dbname": arguments.get("database"),
        "application_name": arguments.get("application_name"),
        "connect_timeout": _seconds(arguments.get("timeout")),
        "sslmode": _sslmode(arguments.get("ssl_context")),
    }


def _from_asyncpg(arguments: Parameters) -> Parameters:
    names = {"host", "port", "user", "passfile", "service", "target_session_attrs"}
    dsn = arguments.get("dsn")
    given = {
        **{name: _joined(value) for name, value in arguments.items() if name in names},
        "password": _text(arguments.get("password")),
        "dbname": arguments.get("database"),
        "connect_timeout": _seconds(arguments.get("timeout")),
        **_asyncpg_ssl(arguments.get("ssl")),
        **_server_settings(arguments.get("server_settings") or {}),
    }
    parameters = connection_parameters({"conninfo": dsn, **given} if dsn else given)
    if _cache_is_off(arguments):
        parameters["prepare_threshold"] = None
    return parameters


def _cache_is_off(arguments: Parameters) -> bool:
    """Return true if asyncpg's statement cache is off, which suggests a pooler that loses prepared statements."""
    return any(arguments.get(name) in (0, "0") for name in ("statement_cache_size", "prepared_statement_cache_size"))


def _split_socket(path: str | None) -> tuple[str | None, str | None]:
    if not path:
        return None, None
    folder, _, port = path.rpartition("/.s.PGSQL.")
    return folder, port


def _joined(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _text(password: Any) -> Any:
    if callable(password):
        password = password()
        if inspect.iscoroutine(password):
            password.close()
            raise ValueError(f"The engine's password is an asynchronous function; {_HINT}")
    return password.decode() if isinstance(password, bytes) else password


def _seconds(timeout: Any) -> int | None:
    return None if timeout is None else math.ceil(float(timeout))


_PARAMETERS_OF_LIBPQ = ("application_name", "client_encoding")
"""Server settings that libpq sends by parameters of its own, which poolers take. Poolers may refuse ``options``."""


def _server_settings(settings: Mapping[str, str]) -> Parameters:
    """Return server settings in libpq's format."""
    by_name = {name: value for name, value in settings.items() if name in _PARAMETERS_OF_LIBPQ}
    others = {name: value for name, value in settings.items() if name not in by_name}
    return {**by_name, "options": _options(others)}


def _options(settings: Mapping[str, str]) -> str | None:
    """Return server settings as ``options``, with spaces and backslashes escaped."""
    escaped = {name: str(value).replace("\\", "\\\\").replace(" ", "\\ ") for name, value in settings.items()}
    return " ".join(f"-c {name}={value}" for name, value in escaped.items()) or None


def _asyncpg_ssl(given: Any) -> Parameters:
    """Return libpq's settings for asyncpg's ``ssl``. True verifies the server, by the certificates that Python trusts.

    libpq's ``sslrootcert=system`` would ask OpenSSL for these, but psycopg's binary package has an OpenSSL of its own,
    which looks elsewhere.
    """
    if given is not True:
        return {"sslmode": _sslmode(given)}
    trusted = ssl.get_default_verify_paths().cafile
    if trusted is None:
        raise ValueError(_VERIFIES.format("asyncpg's ssl=True"))
    return {"sslmode": "verify-full", "sslrootcert": trusted}


_VERIFIES = (
    "{} verifies the server by certificates that libpq cannot find: name them in "
    "worker_connect_args={{'sslmode': 'verify-full', 'sslrootcert': ..., 'host': ..., ...}}"
)


def _sslmode(given: Any) -> str | None:
    """Return libpq's mode for the TLS of a driver that verifies nothing if it gets True."""
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, bool):
        return "require" if given else "disable"
    if isinstance(given, ssl.SSLContext) and given.verify_mode == ssl.CERT_NONE:
        return "require"
    raise ValueError(_VERIFIES.format("The engine's SSLContext"))


_TRANSLATIONS: Mapping[str, Callable[[Parameters], Parameters]] = {
    "psycopg": _from_psycopg,
    "psycopg_async": _from_psycopg,
    "psycopg2": _from_psycopg2,
    "pg8000": _from_pg8000,
    "asyncpg": _from_asyncpg,
}
