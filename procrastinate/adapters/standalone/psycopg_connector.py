"""The connectors of Procrastinate 3.x, with the arguments of psycopg and psycopg_pool."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.pool import NullPool

from procrastinate._extras import needs_extra
from procrastinate.adapters.connections.connect_args import ConnectArgs
from procrastinate.adapters.connections.conninfo import connection_parameters, require_known
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.adapters.standalone.engine_connector import EngineConnector
from procrastinate.adapters.standalone.pools import AsyncPoolRunner, AsyncRunner
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
        An argument is unknown to psycopg and to psycopg_pool.
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
        super().__init__(
            self._make_source(connect_args, pool_options),
            listen_connect_args=listen_connect_args,
            json_dumps=json_dumps,
            json_loads=json_loads,
        )

    def _make_source(self, connect_args: ConnectArgs, pool_options: dict[str, Any]) -> PsycopgSource:
        return PsycopgSource(connect_args, _engine_options(pool_options))


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
            pool_factory = _default_pool_factory()
        if pool_factory is None:
            return PsycopgSource(connect_args, _engine_options(pool_options))
        return _PoolSource(connect_args, pool_options, pool_factory)


# In 3.x a worker's connector is a PsycopgConnector, in Django projects too, and programs check isinstance().
PsycopgConnector.register(WorkerConnector)


class _PoolSource(PsycopgSource):
    """A :class:`PsycopgSource` with a psycopg pool for asynchronous code."""

    def __init__(
        self, connect_args: ConnectArgs, pool_options: dict[str, Any], pool_factory: Callable[..., Any]
    ) -> None:
        super().__init__(connect_args, _engine_options(pool_options))
        self._pool_options = pool_options
        self._pool_factory = pool_factory

    def make_async(self) -> AsyncRunner:
        """Make a pool with the user's factory. It opens when it is first needed."""
        connect_args = self.connect_args()
        kwargs = connect_args.ask() if connect_args.is_fixed else connect_args.ask
        pool = self._pool_factory(kwargs=kwargs, **{**self._pool_options, "open": False})
        return AsyncPoolRunner(pool, owned=True)


def _default_pool_factory() -> Callable[..., Any]:
    with needs_extra(f"A connector with {', '.join(sorted(_HOOKS))}", "pool"):
        import psycopg_pool
    return psycopg_pool.AsyncConnectionPool


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
