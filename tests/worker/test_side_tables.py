"""Locks on the tables that a worker writes besides the jobs: its heart beats, and other jobs start."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import psycopg

from procrastinate import Limit, Rate
from procrastinate.app import App
from procrastinate.job_context import JobContext
from tests.worker.running import Queue, Workers, WorkerThread, happens, until

BEATS_OFTEN: dict[str, Any] = {"update_heartbeat_interval": 0.1, "stalled_worker_timeout": 30}
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
_HEARTBEAT = "SELECT last_heartbeat FROM procrastinate_workers"
_SOON = 10.0
"""Seconds. A worker gives up a statement after thirty."""


async def beats_while_a_statement_waits(queue: Queue) -> None:
    """Check that heartbeats go on after a statement of the worker has begun to wait for a lock."""
    await until(lambda: queue.sql(_WAITING))
    before = queue.sql(_HEARTBEAT)
    async with asyncio.timeout(_SOON):
        await until(lambda: queue.sql(_HEARTBEAT) > before)


async def test_the_heart_beats_while_the_statistics_are_locked(
    app: App, workers: Workers, queue: Queue, other: psycopg.Connection[Any]
) -> None:
    quick = app.task(name="quick")(lambda: None)
    await workers.listening(queue, **BEATS_OFTEN)
    other.execute("LOCK TABLE procrastinate_statistics IN ACCESS EXCLUSIVE MODE")
    await queue.succeeded(await quick.defer_async())
    await beats_while_a_statement_waits(queue)
    other.rollback()
    await until(lambda: queue.sql("SELECT count FROM procrastinate_statistics WHERE seconds = 0") == 1)


async def test_the_heart_beats_while_the_reports_are_locked_and_the_loop_is_blocked(
    app: App, queue: Queue, database_url: str, other: psycopg.Connection[Any]
) -> None:
    """A thread writes the stack of the loop, on the connection of the heartbeats."""
    started, may_end = threading.Event(), threading.Event()

    @app.task(name="block")
    async def block() -> None:
        started.set()
        may_end.wait(60)

    thread = WorkerThread(app, database_url, "blocked", **BEATS_OFTEN)
    other.execute("LOCK TABLE procrastinate_job_reports IN ACCESS EXCLUSIVE MODE")
    await block.defer_async()
    thread.start()
    try:
        await happens(started)
        await beats_while_a_statement_waits(queue)
    finally:
        other.rollback()
        may_end.set()
        await thread.stopped()


async def test_the_heart_beats_while_a_sync_job_waits_to_hold_off_its_key(
    app: App, workers: Workers, queue: Queue, other: psycopg.Connection[Any]
) -> None:
    """The call of the job is on the connection of the heartbeats, too."""

    @app.task(name="holds", pass_context=True, limit=Limit("l", concurrency=1))
    def holds(context: JobContext) -> None:
        context.hold_off(60)

    await workers.listening(queue, **BEATS_OFTEN)
    other.execute("INSERT INTO procrastinate_hold_offs (limit_name, limit_key, until) VALUES ('l', '', now())")
    job_id = await holds.defer_async()
    await beats_while_a_statement_waits(queue)
    other.rollback()
    await queue.succeeded(job_id)
    assert queue.sql("SELECT until > now() FROM procrastinate_hold_offs")


async def test_a_lock_on_the_starts_of_a_rate_holds_up_no_job_without_a_limit(
    app: App, workers: Workers, queue: Queue, other: psycopg.Connection[Any]
) -> None:
    """An operator has deleted them in a transaction that is still open."""
    limited = app.task(name="limited", limit=Limit("l", rate=Rate(1, per=1)))(lambda: None)
    free = app.task(name="free")(lambda: None)
    await workers.listening(queue)
    await queue.succeeded(await limited.defer_async())
    queue.sql("UPDATE procrastinate_starts SET at = at - interval '1 hour'")
    other.execute("DELETE FROM procrastinate_starts")
    waiting = await limited.defer_async()
    await until(lambda: queue.sql(_WAITING))
    job_id = await free.defer_async()
    async with asyncio.timeout(_SOON):
        await queue.succeeded(job_id)
    other.rollback()
    await queue.succeeded(waiting)
