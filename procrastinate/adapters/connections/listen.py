"""LISTEN: one connection that receives notifications and detects a dead server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
from psycopg import sql

from procrastinate import exceptions
from procrastinate._durations import setting
from procrastinate._long_waits import told
from procrastinate._text.logs import get_logger
from procrastinate.adapters.connections.answer_timeout import cut
from procrastinate.adapters.connections.connect_args import ConnectArgs
from procrastinate.adapters.connections.engine_runner import translated_errors
from procrastinate.adapters.connections.psycopg_types import ADAPTERS
from procrastinate.connector import Notify

logger = get_logger(__name__)

PROBE_INTERVAL = 15.0
"""Seconds of silence after which the connection probes the server."""

ANSWER_TIMEOUT = 10.0
"""Seconds that the server has to answer a probe."""

UNREADABLE_PAUSE = 1.0
"""Seconds between two times that a worker is told to look because of unreadable notifications."""

Connection = psycopg.AsyncConnection[Any]


async def listen(
    connect_args: ConnectArgs,
    on_notification: Notify,
    channels: Iterable[str],
    on_listening: Callable[[], None] | None = None,
) -> None:
    """Listen on the channels until cancelled, on a new connection.

    Parameters
    ----------
    connect_args:
        The arguments of :func:`psycopg.connect`, requested when this function starts.
    on_listening:
        Called once the connection listens on all channels.

    Raises
    ------
    ConnectorException
        The connection cannot be made or is lost.
    """
    with translated_errors(), told(_tell_connecting):
        parameters = await connect_args.ask_async()
        connection = await Connection.connect(**parameters, autocommit=True, context=ADAPTERS)
    try:
        await _listen_on(connection, on_notification, channels, on_listening)
    finally:
        await connection.close()


def _tell_connecting(waited: float) -> None:
    message = "There has been no connection for notifications for %.0f s"
    logger.warning(message, waited, extra={"action": "database_awaited", "operation": "listen"})


async def _listen_on(
    connection: Connection,
    on_notification: Notify,
    channels: Iterable[str],
    on_listening: Callable[[], None] | None,
) -> None:
    statements = [sql.SQL("LISTEN {}").format(sql.Identifier(channel)) for channel in channels]
    await _execute(connection, sql.SQL("; ").join(statements))
    if on_listening is not None:
        on_listening()
    while True:
        try:
            with translated_errors():
                heard = await _hear(connection)
        except UnicodeDecodeError:
            # Any role may send bytes that are no text, to a database in SQL_ASCII. What came with them is lost.
            await asyncio.sleep(UNREADABLE_PAUSE)
            if on_listening is not None:
                on_listening()
            continue
        for notification in heard:
            await on_notification(channel=notification.channel, payload=notification.payload)
        if not heard:
            await _execute(connection, sql.SQL("SELECT 1"))


async def _hear(connection: Connection) -> list[psycopg.Notify]:
    """Return what has come, or nothing after :data:`PROBE_INTERVAL` seconds of silence."""
    return [notification async for notification in connection.notifies(timeout=PROBE_INTERVAL, stop_after=1)]


async def _execute(connection: Connection, statement: sql.SQL | sql.Composed) -> None:
    """Run a statement and raise ``DatabaseUnavailable`` if the server does not answer in time."""
    running = asyncio.create_task(connection.execute(statement))
    try:
        await asyncio.wait({running}, timeout=ANSWER_TIMEOUT)
        if not running.done():
            raise exceptions.DatabaseUnavailable(f"The database has not answered for {setting(ANSWER_TIMEOUT)}")
    finally:
        if not running.done():
            await _abandon(connection, running)
    with translated_errors():
        await running


async def _abandon(connection: Connection, running: asyncio.Task[Any]) -> None:
    cut(connection)
    await asyncio.wait({running})
    with contextlib.suppress(psycopg.Error, asyncio.CancelledError):
        running.result()
