"""Waits that last are logged, with what is waited for."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate.app import App
from procrastinate.core import Status
from tests.worker.running import Queue, Workers, connector_for, happens, soon, until


def records(caplog: pytest.LogCaptureFixture, action: str) -> list[logging.LogRecord]:
    """Return what was logged of this kind."""
    return [record for record in caplog.records if vars(record).get("action") == action]


@pytest.mark.parametrize("options", [{}, {"shutdown_graceful_timeout": 0}], ids=["to end", "asked to stop"])
async def test_a_worker_that_stops_names_the_jobs_for_which_it_waits(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    caplog.set_level(logging.INFO, "procrastinate")
    started, may_end = threading.Event(), threading.Event()

    @app.task(name="long")
    def long() -> None:
        started.set()
        assert may_end.wait(60)

    job_id = await long.defer_async()
    running = workers.start(**options)
    await happens(started)
    running.worker.stop()
    await until(lambda: records(caplog, "waiting_for_jobs"))
    message = records(caplog, "waiting_for_jobs")[0].getMessage()
    assert f"long[{job_id}](...)" in message
    assert ("asked to stop" in message) is bool(options)
    may_end.set()
    await running.ended()
    assert queue.status(job_id) is Status.SUCCEEDED


async def test_a_worker_that_cannot_register_says_that_the_database_does_not_answer(
    workers: Workers, engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with engine.begin() as holder:
        holder.execute(sa.text("LOCK TABLE procrastinate_workers IN ACCESS EXCLUSIVE MODE"))
        running = workers.start()
        await until(lambda: records(caplog, "database_awaited"))
    assert vars(records(caplog, "database_awaited")[0])["operation"] == "register_worker"
    await running.stopped()


async def test_a_thread_that_waits_for_the_database_says_so(
    database_url: str, engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """As the heartbeat does."""
    connector = connector_for(database_url)
    connector.open()

    def count_workers(connection: sa.Connection) -> Any:
        return connection.execute(sa.text("SELECT count(*) FROM procrastinate_workers")).scalar_one()

    with engine.begin() as holder:
        holder.execute(sa.text("LOCK TABLE procrastinate_workers IN ACCESS EXCLUSIVE MODE"))
        waiting = asyncio.create_task(asyncio.to_thread(connector.run, count_workers))
        await until(lambda: records(caplog, "database_awaited"))
    assert await soon(waiting) == 0
    connector.close()
    assert "(count_workers)" in records(caplog, "database_awaited")[0].getMessage()
