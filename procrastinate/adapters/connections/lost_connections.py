"""Pools that detect a connection lost while idle, without a round trip."""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import sqlalchemy as sa

_SEEN = "procrastinate_seen"


def replace_lost_connections(engine: sa.Engine) -> None:
    """Make an owned engine replace lost connections at checkout.

    Otherwise the first statement after a server restart would fail, or each checkout would need a query
    (``pool_pre_ping``). Engines of drivers other than psycopg, psycopg2 and asyncpg stay unchanged.
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
        # Two non-blocking reads: the first gets the server's last message, the second gets the end of the stream.
        connection.pgconn.consume_input()
        connection.pgconn.consume_input()
    except psycopg.Error:
        return True
    return bool(connection.closed)


def _psycopg2_is_lost(connection: Any) -> bool:
    """True if there is data to read. An idle connection receives little except the server's last message."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _asyncpg_is_lost(connection: Any) -> bool:
    """True if the event loop has seen the connection close."""
    return bool(connection.is_closed())


_TESTS: Mapping[str, Callable[[Any], bool]] = {
    "psycopg": _psycopg_is_lost,
    "psycopg2": _psycopg2_is_lost,
    "asyncpg": _asyncpg_is_lost,
}
