"""The queue's own psycopg engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.util import await_only

from procrastinate.adapters.connections.connect_args import ConnectArgs
from procrastinate.adapters.connections.conninfo import long_lived
from procrastinate.adapters.connections.psycopg_types import ADAPTERS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_URL = "postgresql+psycopg://"

_DEFAULTS: Mapping[str, Any] = {
    "hide_parameters": True,  # job arguments may be secret and must not appear in errors and logs
    "use_native_hstore": False,  # saves a query to the server
}

_ALWAYS: Mapping[str, Any] = {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}


def psycopg_engine(connect_args: ConnectArgs, **options: Any) -> sa.Engine:
    """Return an engine that connects with psycopg's parameters.

    Parameters
    ----------
    connect_args:
        The arguments of :func:`psycopg.connect`, requested for each new connection.
    options:
        Options of :func:`sqlalchemy.create_engine`. The connections are in autocommit whatever these options say.
    """
    engine = sa.create_engine(_URL, **{**_DEFAULTS, **options, **_ALWAYS})

    def connect(dialect: Any, *_: Any) -> Any:
        return dialect.connect(**_own(connect_args.ask()))

    sa.event.listen(engine, "do_connect", connect)
    return engine


def psycopg_async_engine(connect_args: ConnectArgs, **options: Any) -> AsyncEngine:
    """Return an asynchronous engine like :func:`psycopg_engine`."""
    from sqlalchemy.ext.asyncio import create_async_engine  # with the ORM, which a synchronous program may not need

    engine = create_async_engine(_URL, **{**_DEFAULTS, **options, **_ALWAYS})

    def connect(dialect: Any, *_: Any) -> Any:
        return dialect.connect(**_own(await_only(connect_args.ask_async())))

    sa.event.listen(engine.sync_engine, "do_connect", connect)
    return engine


def _own(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Add the queue's adapters. SQLAlchemy's own ``context`` derives from psycopg's global adapters."""
    return {**long_lived(parameters), "context": ADAPTERS}
