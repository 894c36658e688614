"""The general connector, for a URL or a user's engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from procrastinate.adapters.connections.connect_args import Given
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.adapters.standalone.engine_connector import EngineConnector
from procrastinate.adapters.standalone.engine_conninfo import warn_of_listeners
from procrastinate.adapters.standalone.sources import source_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


class SQLAlchemyConnector(EngineConnector):
    """Stores jobs through SQLAlchemy, for synchronous and asynchronous code.

    Parameters
    ----------
    bind:
        A database URL, an ``Engine`` or an ``AsyncEngine``. The URL is SQLAlchemy's (``postgresql+psycopg://``,
        ``+asyncpg``, ``+psycopg2``, ``+pg8000``) or libpq's (``postgresql://``, served by psycopg). The settings of an
        engine stay unchanged, and you dispose of it yourself.
    worker_connect_args:
        psycopg's arguments for a worker: a connection string, or arguments of :func:`psycopg.connect`. Or a function
        that returns either, which is called for each new connection because passwords may change. Only an engine whose
        parameters cannot be read needs this argument, for example one with a ``creator``. ``do_connect`` hooks of an
        engine are called for each connection without it.
    listen_connect_args:
        Connection parameters that differ for listening connections, a worker's included, in the same form. Use them to
        bypass PgBouncer in transaction mode: ``"host=db port=5432"``. All other parameters (user, password, database)
        are those of the worker's other connections, which go through the pooler.
    json_dumps, json_loads:
        Functions that convert job arguments to JSON text and back, by default those of :mod:`json`.
    engine_options:
        Options of :func:`sqlalchemy.create_engine`, for a URL only.

    Raises
    ------
    TypeError, ValueError
        ``bind`` has another type, is not a URL or does not lead to PostgreSQL, or ``listen_connect_args`` cannot be
        parsed.
    """

    def __init__(
        self,
        bind: str | sa.URL | sa.Engine | AsyncEngine,
        *,
        worker_connect_args: Given | None = None,
        listen_connect_args: Mapping[str, Any] | str | None = None,
        json_dumps: Callable[[Any], str] | None = None,
        json_loads: Callable[[str], Any] | None = None,
        **engine_options: Any,
    ) -> None:
        super().__init__(
            source_of(bind, engine_options),
            worker_connect_args=worker_connect_args,
            listen_connect_args=listen_connect_args,
            json_dumps=json_dumps,
            json_loads=json_loads,
        )
        given: Any = bind
        is_url = isinstance(given, (str, sa.URL))
        self._engine: sa.Engine | None = None if is_url else getattr(given, "sync_engine", given)

    def get_worker_connector(self) -> WorkerConnector:
        """Return the connector for a worker, on the same database. Listeners of the engine do not concern it."""
        if self._engine is not None and self._worker_connect_args is None:
            warn_of_listeners(self._engine, "the worker's own connections")
        return super().get_worker_connector()
