"""The general connector: over a URL, or over an engine of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from procrastinate.adapters.connect_args import Given
from procrastinate.adapters.standalone.engine_connector import EngineConnector
from procrastinate.adapters.standalone.sources import source_of


class SQLAlchemyConnector(EngineConnector):
    """Jobs through SQLAlchemy, for synchronous and asynchronous code.

    Parameters
    ----------
    bind:
        A database URL: SQLAlchemy's (``postgresql+psycopg://``, ``+asyncpg``, ``+psycopg2``, ``+pg8000``) or libpq's
        (``postgresql://``, which psycopg serves). Or an ``Engine`` or ``AsyncEngine``, whose settings are left alone
        and which stays yours to dispose of.
    worker_connect_args:
        What psycopg connects a worker with: a connection string, or arguments of :func:`psycopg.connect`. Or a
        function that returns either, which is called whenever a connection is made: passwords may change. Needed
        for an engine that connects in a way that cannot be told from outside, as with ``creator``. The ``do_connect``
        hooks of an engine are asked by themselves, for each connection.
    listen_connect_args:
        What is different for the connections that listen, a worker's among them, in the same form. Behind PgBouncer in
        transaction mode it is the way past it: ``"host=db port=5432"``. All else (user, password, database) is as for
        the worker's other connections, and goes through the pooler.
    json_dumps, json_loads:
        How job arguments become JSON text and back; those of :mod:`json` by default.
    engine_options:
        As :func:`sqlalchemy.create_engine`, together with a URL.

    Raises
    ------
    TypeError, ValueError
        ``bind`` is of another type, is no URL, or does not lead to PostgreSQL; ``listen_connect_args`` cannot be read.
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
