"""Pools that notice without a round trip that a connection was lost while it lay idle."""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import sqlalchemy as sa

_SEEN = "procrastinate_seen"


def replace_lost_connections(engine: sa.Engine) -> None:
    """Let an engine of one's own replace lost connections before they are used.

    The first statement after a restart of the server would fail otherwise, or each checkout would have to ask the
    server (``pool_pre_ping``). For drivers other than psycopg, psycopg2 and asyncpg nothing changes.
    """
    is_lost = _TESTS.get(engine.dialect.driver)
    if is_lost is None:
        return

    def refuse_lost(_dbapi_connection: Any, record: Any, _proxy: Any) -> None:
        is_new = not record.info.get(_SEEN)
        record.info[_SEEN] = True
        if not is_new and is_lost(record.driver_connection):
            raise sa.exc.DisconnectionError("The connection was lost while it was idle")

    sa.event.listen(engine, "checkout", refuse_lost)


def _psycopg_is_lost(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    try:
        # Reads that do not block: the first takes the server's farewell, the second meets the end of the stream.
        connection.pgconn.consume_input()
        connection.pgconn.consume_input()
    except psycopg.Error:
        return True
    return bool(connection.closed)


def _psycopg2_is_lost(connection: Any) -> bool:
    """Whether there is something to read: an idle connection hears little but farewells."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _asyncpg_is_lost(connection: Any) -> bool:
    """What the event loop has seen."""
    return bool(connection.is_closed())


_TESTS: Mapping[str, Callable[[Any], bool]] = {
    "psycopg": _psycopg_is_lost,
    "psycopg2": _psycopg2_is_lost,
    "asyncpg": _asyncpg_is_lost,
}
