"""A worker's connector is closed while one of its threads still uses it."""

from __future__ import annotations

import asyncio
import threading

import sqlalchemy as sa

from tests.worker.running import Queue, connector_for, happens, until


async def test_a_connection_that_is_in_use_when_its_connector_closes_is_closed_after_that(
    database_url: str, queue: Queue
) -> None:
    connector = connector_for(database_url, "closes")
    connector.open()
    is_in_use, may_end = threading.Event(), threading.Event()

    def operation(connection: sa.Connection) -> None:
        connection.execute(sa.text("SELECT 1"))
        is_in_use.set()
        assert may_end.wait(30)

    running = asyncio.create_task(asyncio.to_thread(connector.run, operation))
    await happens(is_in_use)
    connector.close()
    assert len(queue.backends("closes")) == 1
    may_end.set()
    await running
    await until(lambda: queue.backends("closes") == [])
