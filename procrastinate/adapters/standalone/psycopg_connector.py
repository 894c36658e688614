"""The connectors of Procrastinate 3.x, with the arguments of psycopg and psycopg_pool."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.pool import NullPool

from procrastinate._extras import needs_extra
from procrastinate._functions.kinds import is_async_callable
from procrastinate._text.logs import get_logger
from procrastinate.adapters.connections.connect_args import ConnectArgs
from procrastinate.adapters.connections.conninfo import connection_parameters, require_known
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.adapters.standalone.engine_connector import EngineConnector
from procrastinate.adapters.standalone.pools import AsyncPoolRunner, AsyncRunner, PoolRunner, SyncRunner, ThreadRunner
from procrastinate.adapters.standalone.sources import PsycopgSource

_POOL_OPTIONS = {
    "check",
    "close_returns",
    "configure",
    "connection_class",
    "max_idle",
    "max_lifetime",
    "max_size",
    "max_waiting",
    "min_size",
    "name",
    "num_workers",
    "open",
    "reconnect_failed",
    "reconnect_timeout",
    "reset",
    "timeout",
}
_HOOKS = {"check", "configure", "connection_class", "reconnect_failed", "reset"}
"""Options that only psycopg_pool supports. SQLAlchemy's pool has an equivalent of the others or does not need them."""

_CALLED = ("check", "configure", "reset")
"""Options with a function that a pool calls with a connection: an async one if the pool is for asynchronous code."""

_SETS_UP = ("configure", "connection_class")
"""Options that change what a connection is. A connection that is made without them behaves in another way."""

logger = get_logger(__name__)


class SyncPsycopgConnector(EngineConnector):
    """A psycopg connector with the arguments of ``psycopg_pool.ConnectionPool`` and :func:`psycopg.connect`.

    Parameters
    ----------
    listen_connect_args:
        See :class:`~procrastinate.adapters.standalone.sqlalchemy_connector.SQLAlchemyConnector`.
    json_dumps, json_loads:
        Functions that convert job arguments to JSON text and back, by default those of :mod:`json`.
    arguments:
        ``conninfo`` (a connection string) and ``kwargs`` (arguments of :func:`psycopg.connect`), or functions that
        return them and are called for each new connection. The arguments can also be passed by name: ``host=``,
        ``dbname=`` and so on. Without any, libpq's environment variables apply (``PGHOST`` ...).
        The pool keeps up to ``min_size`` (4) connections open and makes at most ``max_size``. A caller waits up to
        ``timeout`` (30) seconds for a connection. A connection is replaced after ``max_lifetime`` (3600) seconds.

    Raises
    ------
    TypeError
        An argument is unknown to psycopg and to psycopg_pool, or a function is async that the pool calls.
    """

    def __init__(
        self,
        *,
        listen_connect_args: Mapping[str, Any] | str | None = None,
        json_dumps: Callable[[Any], str] | None = None,
        json_loads: Callable[[str], Any] | None = None,
        **arguments: Any,
    ) -> None:
        connect_args, pool_options = _split(arguments)
        self._sets_up = [name for name in _SETS_UP if name in pool_options]
        super().__init__(
            self._make_source(connect_args, pool_options),
            listen_connect_args=listen_connect_args,
            json_dumps=json_dumps,
            json_loads=json_loads,
        )

    def _make_source(self, connect_args: ConnectArgs, pool_options: dict[str, Any]) -> PsycopgSource:
        if not _HOOKS & pool_options.keys():
            return PsycopgSource(connect_args, _engine_options(pool_options))
        _require_kind(pool_options, is_async=False)
        return _SyncPoolSource(connect_args, pool_options, _psycopg_pool().ConnectionPool)

    def get_worker_connector(self) -> WorkerConnector:
        """Return the connector for a worker, on the same database. Options of a pool do not concern it."""
        _warn_of(self._sets_up, "the worker's own connections", _PARAMETERS_INSTEAD)
        return super().get_worker_connector()


class PsycopgConnector(SyncPsycopgConnector, metaclass=abc.ABCMeta):
    """A :class:`SyncPsycopgConnector` that also serves asynchronous code.

    Parameters
    ----------
    pool_factory:
        Makes the pool for asynchronous code from the arguments of ``psycopg_pool.AsyncConnectionPool``. By default
        SQLAlchemy's pool is used, or ``AsyncConnectionPool`` if an argument needs it, for example ``configure``.
    """

    def __init__(
        self,
        *,
        json_dumps: Callable[[Any], str] | None = None,
        json_loads: Callable[[str], Any] | None = None,
        pool_factory: Callable[..., Any] | None = None,
        **arguments: Any,
    ) -> None:
        self._pool_factory = pool_factory
        super().__init__(json_dumps=json_dumps, json_loads=json_loads, **arguments)

    def _make_source(self, connect_args: ConnectArgs, pool_options: dict[str, Any]) -> PsycopgSource:
        pool_factory = self._pool_factory
        if pool_factory is None and _HOOKS & pool_options.keys():
            _require_kind(pool_options, is_async=True)
            pool_factory = _psycopg_pool().AsyncConnectionPool
        if pool_factory is None:
            return PsycopgSource(connect_args, _engine_options(pool_options))
        return _PoolSource(connect_args, pool_options, pool_factory)


# In 3.x a worker's connector is a PsycopgConnector, in Django projects too, and programs check isinstance().
PsycopgConnector.register(WorkerConnector)


class _PoolOptions(PsycopgSource):
    """A :class:`PsycopgSource` with a psycopg pool for one kind of code."""

    def __init__(
        self, connect_args: ConnectArgs, pool_options: dict[str, Any], pool_factory: Callable[..., Any]
    ) -> None:
        super().__init__(connect_args, _engine_options(pool_options))
        self._pool_options = pool_options
        self._pool_factory = pool_factory

    def _make_pool(self) -> Any:
        """Make a pool with the factory. It opens when it is first needed."""
        connect_args = self.connect_args()
        kwargs = connect_args.ask() if connect_args.is_fixed else connect_args.ask
        return self._pool_factory(kwargs=kwargs, **{**self._pool_options, "open": False})


class _PoolSource(_PoolOptions):
    """A source with a psycopg pool for asynchronous code."""

    def make_sync(self) -> SyncRunner:
        """Return a psycopg engine's runner, and say what does not hold for it."""
        ignored = [name for name in _SETS_UP if name in self._pool_options]
        _warn_of(ignored, "synchronous code", f"{_PARAMETERS_INSTEAD}, or give the program a SyncPsycopgConnector")
        return super().make_sync()

    def make_async(self) -> AsyncRunner:
        """Return the runner of a pool."""
        return AsyncPoolRunner(self._make_pool(), owned=True)


class _SyncPoolSource(_PoolOptions):
    """A source with a psycopg pool for synchronous code. Asynchronous code uses such a pool from threads."""

    def make_sync(self) -> SyncRunner:
        """Return the runner of a pool."""
        return PoolRunner(self._make_pool(), owned=True)

    def make_async(self) -> AsyncRunner:
        """Return a runner that uses a pool from threads."""
        return ThreadRunner(self.make_sync())


_PARAMETERS_INSTEAD = "put settings into the connection parameters, as in options='-c search_path=jobs'"


def _warn_of(options: list[str], connections: str, way_out: str) -> None:
    for name in options:
        logger.warning(
            f"The option {name} does not hold for {connections}: {way_out}",
            extra={"action": "pool_option_without_effect", "option": name},
        )


def _require_kind(pool_options: Mapping[str, Any], *, is_async: bool) -> None:
    """Refuse what the pool cannot use. It would try in the background, and each caller would wait for it in vain."""
    kind, connector = ("an async", "PsycopgConnector") if is_async else ("a sync", "SyncPsycopgConnector")
    for name in _CALLED:
        function = pool_options.get(name)
        if callable(function) and is_async_callable(function) is not is_async:
            raise TypeError(f"{name} of a {connector} must be {kind} function, because its pool calls it so")
    made = pool_options.get("connection_class")
    if made is not None and is_async_callable(made.connect) is not is_async:
        raise TypeError(f"connection_class of a {connector} must be {kind} connection, not {made.__name__}")


def _psycopg_pool() -> Any:
    with needs_extra(f"A connector with {', '.join(sorted(_HOOKS))}", "pool"):
        import psycopg_pool
    return psycopg_pool


def _split(arguments: Mapping[str, Any]) -> tuple[ConnectArgs, dict[str, Any]]:
    """Split arguments into psycopg's and the pool's."""
    pool_options = {name: value for name, value in arguments.items() if name in _POOL_OPTIONS}
    rest = {name: value for name, value in arguments.items() if name not in _POOL_OPTIONS | {"conninfo", "kwargs"}}
    conninfo, kwargs = arguments.get("conninfo"), arguments.get("kwargs")
    if not callable(conninfo) and not callable(kwargs):
        return ConnectArgs(_merged(conninfo, kwargs, rest)), pool_options
    _merged(None, None, rest)  # parse now, to raise an error early
    return ConnectArgs(lambda: _merged(_called(conninfo), _called(kwargs), rest)), pool_options


def _called(given: Any) -> Any:
    return given() if callable(given) else given


def _merged(conninfo: Any, kwargs: Any, rest: Mapping[str, Any]) -> dict[str, Any]:
    parameters = connection_parameters({**(kwargs or {}), **rest})
    if conninfo:
        parameters = {**connection_parameters(conninfo), **parameters}
    require_known(parameters, "psycopg.connect() nor of its pool")
    return parameters


def _engine_options(pool_options: Mapping[str, Any]) -> dict[str, Any]:
    """Translate psycopg_pool's sizes and times to SQLAlchemy's pool options, with psycopg_pool's defaults."""
    max_size = pool_options.get("max_size")
    min_size = pool_options.get("min_size", 4 if max_size is None else min(4, max_size))
    if min_size < 0 or (max_size is not None and max_size < min_size):
        raise ValueError("min_size must be at least 0, and max_size no less than min_size")
    if max_size == 0:
        return {"poolclass": NullPool}
    kept = max(min_size, 1)
    return {
        "pool_size": kept,
        "max_overflow": max(max_size or kept, kept) - kept,
        "pool_timeout": pool_options.get("timeout", 30.0),
        "pool_recycle": pool_options.get("max_lifetime", 3600.0),
    }
