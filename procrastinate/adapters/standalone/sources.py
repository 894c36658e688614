"""Sources of connections. Each provides runners for sync and async code, and psycopg's parameters."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from procrastinate._extras import needs_extra
from procrastinate.adapters.connections.connect_args import ConnectArgs
from procrastinate.adapters.connections.conninfo import connection_parameters, require_known_in_url
from procrastinate.adapters.connections.engine_runner import AUTOCOMMIT, AsyncEngineRunner, EngineRunner
from procrastinate.adapters.connections.psycopg_engine import psycopg_async_engine, psycopg_engine
from procrastinate.adapters.standalone.engine_conninfo import engine_connect_args, psycopg_parameters, warn_of_listeners
from procrastinate.adapters.standalone.pools import AsyncRunner, SyncRunner, ThreadRunner

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_EXTRAS = {"psycopg2": "psycopg2"}
"""The drivers that an extra installs."""
_ASYNC_ONLY = {"asyncpg"}
_PSYCOPG = {"psycopg", "psycopg_async"}
_PSYCOPG_URL = sa.make_url("postgresql+psycopg://")
_CREATOR = "creator"
"""The option of an engine that connects by a function of the user. The URL then says only which driver it is."""

_TAKES_ENCODING = {"psycopg2", "pg8000"}
"""These drivers decode text in the database's encoding unless it is set. asyncpg always requests UTF-8."""


def _needs_driver(driver: str) -> AbstractContextManager[None]:
    if driver not in _EXTRAS:
        return contextlib.nullcontext()
    return needs_extra(f"A URL with {driver}", _EXTRAS[driver])


class Source(Protocol):
    """A source of connections to one database."""

    def make_sync(self) -> SyncRunner:
        """Return a runner for synchronous code."""
        ...

    def make_async(self) -> AsyncRunner:
        """Return a runner for asynchronous code in the running event loop."""
        ...

    def connect_args(self) -> ConnectArgs:
        """Return psycopg's arguments for the same database.

        Raises
        ------
        ValueError
            The arguments cannot be determined.
        """
        ...


class PsycopgSource:
    """psycopg's connection parameters, with options for the engines made from them."""

    def __init__(self, connect_args: ConnectArgs, options: Mapping[str, Any]) -> None:
        self._connect_args = connect_args
        self._options = dict(options)

    def __repr__(self) -> str:
        return repr(self._connect_args)

    def make_sync(self) -> SyncRunner:
        """Return a psycopg engine's runner."""
        return EngineRunner(psycopg_engine(self._connect_args, **self._options), owned=True)

    def make_async(self) -> AsyncRunner:
        """Return an asynchronous psycopg engine's runner."""
        return AsyncEngineRunner(psycopg_async_engine(self._connect_args, **self._options), owned=True)

    def connect_args(self) -> ConnectArgs:
        """Return the parameters unchanged."""
        return self._connect_args


class DriverSource:
    """A URL with another driver. psycopg serves the side, sync or async, that the driver does not support."""

    def __init__(self, url: sa.URL, options: Mapping[str, Any]) -> None:
        self._url = url
        encoding = {"client_encoding": "utf8"} if url.get_driver_name() in _TAKES_ENCODING else {}
        self._options = {"hide_parameters": True, **encoding, **options, "isolation_level": AUTOCOMMIT}
        self._is_async = url.get_driver_name() in _ASYNC_ONLY

    def __repr__(self) -> str:
        return repr(str(self._url.set(password=None)))

    def make_sync(self) -> SyncRunner:
        """Return the runner of the driver's engine, or of psycopg's."""
        if self._is_async:
            return self._instead().make_sync()
        return EngineRunner(self._engine(), owned=True)

    def make_async(self) -> AsyncRunner:
        """Return the runner of the driver's asynchronous engine, or psycopg's. Only threads can use a ``creator``."""
        if not self._is_async:
            return ThreadRunner(self.make_sync()) if _CREATOR in self._options else self._instead().make_async()
        from sqlalchemy.ext.asyncio import create_async_engine

        return AsyncEngineRunner(create_async_engine(self._url, **self._options), owned=True)

    def connect_args(self) -> ConnectArgs:
        """Return the URL and the driver's ``connect_args``, translated for psycopg."""
        return engine_connect_args(self._engine())

    def _engine(self) -> sa.Engine:
        if self._is_async:
            from sqlalchemy.ext.asyncio import create_async_engine

            return create_async_engine(self._url, **self._options).sync_engine
        with _needs_driver(self._url.get_driver_name()):
            return sa.create_engine(self._url, **self._options)

    def _instead(self) -> PsycopgSource:
        options = {name: value for name, value in self._options.items() if name.startswith(("pool_", "max_", "echo"))}
        return PsycopgSource(self.connect_args(), options)


class EngineSource:
    """The user's engine."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def __repr__(self) -> str:
        return repr(self._engine)

    def make_sync(self) -> SyncRunner:
        """Return a runner on the engine."""
        return EngineRunner(self._engine, owned=False)

    def make_async(self) -> AsyncRunner:
        """Return a runner that uses the engine from threads."""
        return ThreadRunner(self.make_sync())

    def connect_args(self) -> ConnectArgs:
        """Return the engine's connection arguments, translated for psycopg."""
        return engine_connect_args(self._engine)


class AsyncEngineSource:
    """The user's asynchronous engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    def __repr__(self) -> str:
        return repr(self._engine)

    def make_sync(self) -> SyncRunner:
        """Return a runner on a small psycopg engine, because an asynchronous engine cannot serve synchronous code."""
        warn_of_listeners(self._engine.sync_engine, "synchronous code")
        engine = psycopg_engine(self.connect_args(), pool_size=1, max_overflow=4)
        return EngineRunner(engine, owned=True)

    def make_async(self) -> AsyncRunner:
        """Return a runner on the engine."""
        return AsyncEngineRunner(self._engine, owned=False)

    def connect_args(self) -> ConnectArgs:
        """Return the engine's connection arguments, translated for psycopg."""
        return engine_connect_args(self._engine.sync_engine)


def source_of(bind: Any, options: Mapping[str, Any]) -> Source:
    """Return the source for a user's URL or engine.

    Parameters
    ----------
    bind:
        A URL, as a string or :class:`sqlalchemy.URL`, or an ``Engine`` or ``AsyncEngine``.
    options:
        Options of :func:`sqlalchemy.create_engine`, for a URL only.

    Raises
    ------
    TypeError, ValueError
        ``bind`` or ``options`` are invalid. The message does not repeat the URL, because it may contain a password.
    """
    if not isinstance(bind, (str, sa.URL)):
        return _engine_source(bind, options)
    if isinstance(bind, str) and not _names_driver(bind):
        if _CREATOR in options:
            return DriverSource(_PSYCOPG_URL, options)
        return _psycopg_source(connection_parameters(bind), options)
    url = _parse_url(bind)
    _require_postgresql(url.get_backend_name())
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    _require_known_driver(url)
    if url.get_driver_name() in _PSYCOPG:
        if _CREATOR in options:
            return DriverSource(_PSYCOPG_URL, options)
        parameters = psycopg_parameters(sa.create_engine(url))
        require_known_in_url(parameters)
        return _psycopg_source(parameters, options)
    return DriverSource(url, options)


def _engine_source(bind: Any, options: Mapping[str, Any]) -> EngineSource | AsyncEngineSource:
    from sqlalchemy.ext.asyncio import AsyncEngine

    if not isinstance(bind, (sa.Engine, AsyncEngine)):
        raise TypeError(f"The database must be a URL, an Engine or an AsyncEngine, not {type(bind).__name__}")
    if options:
        raise TypeError(f"An engine already has its options: pass {', '.join(options)} with a URL only")
    _require_postgresql(bind.dialect.name)
    return EngineSource(bind) if isinstance(bind, sa.Engine) else AsyncEngineSource(bind)


def _psycopg_source(parameters: Mapping[str, Any], options: Mapping[str, Any]) -> PsycopgSource:
    connect_args = options.get("connect_args") or {}
    rest = {name: value for name, value in options.items() if name != "connect_args"}
    return PsycopgSource(ConnectArgs({**parameters, **connect_args}), rest)


def _names_driver(text: str) -> bool:
    """Return true for a SQLAlchemy URL. Any other URL is parsed by libpq, with all of libpq's features."""
    scheme = re.match(r"\s*([a-z0-9_+]+)://", text)
    if scheme is None:
        return False
    backend = scheme[1].partition("+")[0]
    _require_postgresql(backend)
    return "+" in scheme[1]


def _parse_url(url: Any) -> sa.URL:
    if not isinstance(url, (str, sa.URL)):
        raise TypeError(f"The database must be a URL, an Engine or an AsyncEngine, not {type(url).__name__}")
    try:
        return sa.make_url(url.strip() if isinstance(url, str) else url)
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError(
            "The database URL cannot be read: write it as postgresql+driver://user:password@host:port/dbname, "
            "with special characters percent-encoded"
        ) from None


def _require_known_driver(url: sa.URL) -> None:
    try:
        url.get_dialect()
    except sa.exc.NoSuchModuleError:
        raise ValueError(f"SQLAlchemy knows no driver {url.drivername!r}") from None


def _require_postgresql(name: str) -> None:
    if name not in ("postgresql", "postgres"):
        raise ValueError(f"PostgreSQL is needed, not {name!r}")
