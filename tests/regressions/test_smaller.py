"""Smaller faults (22, 23)."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from procrastinate import core, exceptions
from procrastinate.app import App
from procrastinate.job_context import JobContext
from procrastinate.testing import InMemoryConnector
from tests.worker.running import Queue, Workers, happens, until

OF_EVERY_RECORD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


async def test_a_queueing_lock_is_named_in_full(app: App) -> None:
    """Fault 22. 3.10.0 parses the queueing lock from the server's message, and reports ``a`` for ``a)b``. Here it
    comes from the job or the table.
    """
    deferrer = app.configure_task("task", queueing_lock="a)b")
    await deferrer.defer_async()
    with pytest.raises(exceptions.AlreadyEnqueued, match=r"a\)b"):
        await deferrer.defer_async()
    with pytest.raises(exceptions.AlreadyEnqueued, match=r"a\)b"):
        await deferrer.batch_defer_async({}, {})


async def test_a_worker_needs_no_replaced_connector(app: App, workers: Workers, database_url: str) -> None:
    """Fault 23. On 3.10.0 a worker inside a web server needs ``replace_connector``, which affects every thread.

    Here ``replace_connector`` also affects all threads, because tests need it. But a worker opens its own connections
    and leaves the app's connector unchanged.
    """
    standalone = App(connector=database_url)
    before, ran = standalone.connector, asyncio.Event()
    seen: list[Any] = []

    @standalone.task(name="task")
    async def task() -> None:
        seen.append(standalone.connector)
        ran.set()

    async with standalone.open_async():
        await task.defer_async()
        workers.start(standalone)
        await happens(ran)
        thread = threading.Thread(target=lambda: seen.append(standalone.connector))
        thread.start()
        thread.join()
        assert seen == [before, before]
        await workers.end_of_test()


async def test_in_memory_locks_and_queueing_locks_are_those_of_the_database() -> None:
    """Fault 23. After a retry in memory, 3.10.0 has two waiting jobs with one queueing lock. Here the connector for
    tests passes the same suite as PostgreSQL.

    The claim that 3.10.0 ignores the priority within a lock was not confirmed: it ran the more important job first.
    """
    app = App(connector=InMemoryConnector())
    order: list[str] = []

    @app.task(queueing_lock="one", lock="one", retry=1, pass_context=True)
    async def task(context: JobContext, name: str) -> None:
        order.append(name)
        if order == ["first"]:
            await task.configure(priority=5).defer_async(name="more important")
            raise ValueError

    await task.defer_async(name="first")
    await app.run_worker_async(wait=False, install_signal_handlers=False)
    assert order == ["first", "more important", "first"]


async def test_notifications_put_nothing_of_theirs_into_the_keys_of_a_log_record(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 23. 3.10.0 logs a notification with its channel and payload as attribute names, according to its source.
    Here attribute names are fixed.
    """
    caplog.set_level(logging.DEBUG, "procrastinate")
    task = app.task(name="task", queue="odd")(lambda: None)
    await workers.listening(queue, queues=["odd"])
    await queue.succeeded(await task.defer_async())
    names = {name for record in caplog.records for name in vars(record) if name not in OF_EVERY_RECORD}
    assert not [name for name in names if not name.isidentifier() or "odd" in name]


async def test_pruned_workers_are_logged_by_their_numbers(
    workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 23. 3.10.0 logs ``Pruned stalled workers: [, 1, ,,  , 2, ]``."""
    for _ in range(2):
        core.register_worker(queue.connection)
    queue.sql("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
    workers.start(update_heartbeat_interval=0.1, stalled_worker_timeout=0.8)
    await until(lambda: "prune_stalled_workers" in [vars(record).get("action") for record in caplog.records])
    (record,) = (record for record in caplog.records if vars(record).get("action") == "prune_stalled_workers")
    assert record.getMessage().endswith(": 1, 2")


async def test_an_unknown_job_is_no_result(app: App) -> None:
    """Fault 23. On 3.10.0 Django's connector raises StopIteration and the others raise NoResult. Here one
    implementation for all connectors raises the exception.
    """
    with pytest.raises(exceptions.NoResult):
        await app.job_manager.get_job_status_async(99)
