"""Engines of the queue's own, on psycopg."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from procrastinate.adapters.connect_args import ConnectArgs
from procrastinate.adapters.connection_parameters import long_lived
from procrastinate.adapters.lost_connections import replace_lost_connections
from procrastinate.adapters.own_adapters import ADAPTERS

_URL = "postgresql+psycopg://"

_DEFAULTS: Mapping[str, Any] = {
    "hide_parameters": True,  # jobs' arguments may be secret: they stay out of errors and logs
    "use_native_hstore": False,  # spares a question to the server
}

_ALWAYS: Mapping[str, Any] = {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}


def psycopg_engine(connect_args: ConnectArgs, **options: Any) -> sa.Engine:
    """An engine that connects with psycopg's parameters, and replaces lost connections before they are used.

    Parameters
    ----------
    connect_args:
        Asked whenever a connection is made.
    options:
        As :func:`sqlalchemy.create_engine`; its connections are in autocommit, whatever these say.
    """
    engine = sa.create_engine(_URL, **{**_DEFAULTS, **options, **_ALWAYS})

    def connect(dialect: Any, *_: Any) -> Any:
        return dialect.connect(**_own(connect_args.ask()))

    sa.event.listen(engine, "do_connect", connect)
    replace_lost_connections(engine)
    return engine


def psycopg_async_engine(connect_args: ConnectArgs, **options: Any) -> AsyncEngine:
    """As :func:`psycopg_engine`, asynchronous."""
    engine = create_async_engine(_URL, **{**_DEFAULTS, **options, **_ALWAYS})

    def connect(dialect: Any, *_: Any) -> Any:
        return dialect.connect(**_own(await_only(connect_args.ask_async())))

    sa.event.listen(engine.sync_engine, "do_connect", connect)
    replace_lost_connections(engine.sync_engine)
    return engine


def _own(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """SQLAlchemy's own ``context`` comes from psycopg's global adapters: the queue's take its place."""
    return {**long_lived(parameters), "context": ADAPTERS}
