"""Stopping workers: gracefully, with a timeout, and from any thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import exceptions, periodic
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.job_context import AbortReason, JobContext
from procrastinate.manager import JobManager
from procrastinate.worker import Worker
from procrastinate.worker.fetch.release import Releaser
from tests.worker.running import Queue, Workers, WorkerThread, happens, soon, until


class Gate:
    """A sync or async task that waits until the gate opens."""

    def __init__(self, app: App, *, is_async: bool = True, **options: Any) -> None:
        self.started = threading.Event()
        self.release = threading.Event()
        self.task = app.task(name="gate", **options)(self._async if is_async else self._sync)

    def _sync(self) -> None:
        self.started.set()
        assert self.release.wait(10)

    async def _async(self) -> None:
        self.started.set()
        while not self.release.is_set():  # noqa: ASYNC110 - set in any thread, for any event loop
            await asyncio.sleep(0.005)


KINDS = pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])


@KINDS
async def test_a_worker_that_is_stopped_ends_its_jobs_and_starts_no_more(
    app: App, workers: Workers, queue: Queue, is_async: bool
) -> None:
    gate = Gate(app, is_async=is_async)
    first, second = await gate.task.batch_defer_async({}, {})
    running = workers.start()
    await happens(gate.started)
    running.worker.stop()
    await asyncio.sleep(0)
    assert not running.task.done()
    gate.release.set()
    await running.ended()
    assert (queue.status(first), queue.status(second)) == (Status.SUCCEEDED, Status.TODO)
    assert queue.sql("SELECT count(*) FROM procrastinate_workers") == 0


@KINDS
async def test_a_worker_stops_when_all_that_it_logs_is_refused(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    """A log handler raises on every record."""
    caplog.set_level("DEBUG", logger="procrastinate")

    def refuse(record: logging.LogRecord) -> bool:
        raise ConnectionError(record)

    gate = Gate(app, is_async=is_async)
    job_id = await gate.task.defer_async()
    running = workers.start()
    running.worker.logger.addFilter(refuse)
    try:
        await happens(gate.started)
        running.worker.stop()
        gate.release.set()
        await running.ended()
    finally:
        running.worker.logger.removeFilter(refuse)
    assert queue.status(job_id) == Status.SUCCEEDED


async def test_a_one_shot_worker_ends_when_its_deferrer_cannot_log(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker waits for the first look of its deferrer, which says that there are no periodic tasks."""
    caplog.set_level("DEBUG", logger="procrastinate")

    def refuse(record: logging.LogRecord) -> bool:
        raise ConnectionError(record)

    job_id = await app.task(name="task")(lambda: None).defer_async()
    periodic.logger.addFilter(refuse)
    try:
        await soon(workers.run())
    finally:
        periodic.logger.removeFilter(refuse)
    assert queue.status(job_id) == Status.SUCCEEDED


async def test_a_one_shot_worker_that_is_stopped_does_not_wait_for_due_ticks(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_asking = asyncio.Event()

    async def read_no_clock(self: JobManager) -> float:
        is_asking.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(JobManager, "read_clock", read_no_clock)
    task: Any = app.task(name="tick")(lambda timestamp: None)
    app.periodic(cron="* * * * *")(task)
    job_id = await task.defer_async(timestamp=0)
    running = workers.start(wait=False)
    await happens(is_asking)
    await running.stopped()
    assert queue.status(job_id) == Status.TODO


async def test_a_worker_without_jobs_stops_at_once(workers: Workers, queue: Queue) -> None:
    running = await workers.listening(queue)
    await running.stopped()


async def test_a_worker_may_be_stopped_before_it_runs(app: App, queue: Queue) -> None:
    job_id = await app.task(name="task")(lambda: None).defer_async()
    worker = Worker(app, install_signal_handlers=False)
    worker.stop()
    await soon(worker.run())
    assert queue.status(job_id) is Status.TODO


async def test_stopping_again_changes_nothing(workers: Workers) -> None:
    running = workers.start()
    running.worker.stop()
    running.worker.stop()
    await running.ended()
    running.worker.stop()


async def test_a_worker_may_be_stopped_while_it_starts(workers: Workers) -> None:
    for steps in range(0, 60, 7):
        running = workers.start()
        for _ in range(steps):
            await asyncio.sleep(0)
        await running.stopped()


async def test_a_worker_that_waits_for_the_database_at_its_start_stops_at_once(
    workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    with engine.begin() as holder:
        holder.execute(sa.text("LOCK TABLE procrastinate_workers IN ACCESS EXCLUSIVE MODE"))
        running = workers.start()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        await until(lambda: queue.sql(waiting))
        await running.stopped()
    assert queue.sql("SELECT count(*) FROM procrastinate_workers") == 0


async def test_a_worker_may_be_stopped_from_another_thread(app: App, database_url: str, queue: Queue) -> None:
    gate = Gate(app)
    job_id = await gate.task.defer_async()
    thread = WorkerThread(app, database_url)
    thread.start()
    await happens(gate.started)
    gate.release.set()
    await thread.stopped()
    assert queue.status(job_id) is Status.SUCCEEDED


async def test_a_task_may_stop_its_worker(app: App, workers: Workers, queue: Queue) -> None:
    workers_seen: list[Worker] = []

    async def keep(call_next: Any, context: JobContext, worker: Worker) -> Any:
        workers_seen.append(worker)
        return await call_next()

    @app.task
    def task() -> None:
        workers_seen[0].stop()

    first, second = await task.batch_defer_async({}, {})
    running = workers.start(worker_middleware=[keep])
    await running.ended()
    assert (queue.status(first), queue.status(second)) == (Status.SUCCEEDED, Status.TODO)


# Cancellation


@KINDS
async def test_cancelling_it_stops_it_gracefully(app: App, workers: Workers, queue: Queue, is_async: bool) -> None:
    gate = Gate(app, is_async=is_async)
    first, second = await gate.task.batch_defer_async({}, {})
    running = workers.start()
    await happens(gate.started)
    running.task.cancel()
    gate.release.set()
    with pytest.raises(asyncio.CancelledError):
        await soon(running.task)
    assert (queue.status(first), queue.status(second)) == (Status.SUCCEEDED, Status.TODO)
    assert queue.sql("SELECT count(*) FROM procrastinate_workers") == 0


async def test_cancelling_a_worker_that_is_stopping_stops_it_gracefully(
    app: App, workers: Workers, queue: Queue
) -> None:
    gate = Gate(app)
    job_id = await gate.task.defer_async()
    running = workers.start()
    await happens(gate.started)
    running.worker.stop()
    await asyncio.sleep(0.01)
    running.task.cancel()
    await asyncio.sleep(0.01)
    assert not running.task.done()
    gate.release.set()
    with pytest.raises(asyncio.CancelledError):
        await soon(running.task)
    assert queue.status(job_id) is Status.SUCCEEDED


async def test_cancelling_it_twice_does_not_wait_and_the_job_is_left_to_the_others(
    app: App, workers: Workers, queue: Queue
) -> None:
    gate = Gate(app)
    job_id = await gate.task.defer_async()
    running = workers.start()
    await happens(gate.started)
    running.task.cancel()
    await asyncio.sleep(0.01)
    running.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(running.task)
    assert running.runs == 0
    gate.release.set()
    workers.start()
    await queue.succeeded(job_id)
    assert queue.row(job_id)["attempts"] == 2


async def test_cancelling_it_while_it_gives_jobs_back_leaves_no_heart_beating(
    workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a heartbeat would keep a stopped worker alive for the others."""
    releaser = asyncio.Event()

    async def without_end(self: Releaser, patience: float | None = None) -> None:
        releaser.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Releaser, "finish", without_end)
    running = await workers.listening(queue)
    running.worker.stop()
    await happens(releaser)
    running.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running.task
    await until(lambda: "procrastinate-heartbeat" not in [thread.name for thread in threading.enumerate()])


async def test_run_worker_async_can_be_limited_in_time(app: App, workers: Workers, queue: Queue) -> None:
    gate = Gate(app)
    gate.release.set()
    job_id = await gate.task.defer_async()
    running = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
    await queue.succeeded(job_id)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(running)


# The graceful timeout


async def test_past_the_graceful_timeout_an_async_job_is_cancelled(app: App, workers: Workers, queue: Queue) -> None:
    reasons: list[Any] = []
    started = asyncio.Event()

    @app.task(pass_context=True)
    async def task(context: JobContext) -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            reasons.append(context.abort_reason())

    job_id = await task.defer_async()
    running = workers.start(shutdown_graceful_timeout=0.05)
    await happens(started)
    await running.stopped()
    assert queue.status(job_id) is Status.ABORTED
    assert reasons == [AbortReason.SHUTDOWN]


async def test_past_the_graceful_timeout_the_coroutine_of_a_sync_task_is_cancelled(
    app: App, workers: Workers, queue: Queue
) -> None:
    started = asyncio.Event()

    async def waits() -> None:
        started.set()
        await asyncio.Event().wait()

    job_id = await app.task(name="returns a coroutine")(lambda: waits()).defer_async()
    running = workers.start(shutdown_graceful_timeout=0.05)
    await happens(started)
    await running.stopped()
    assert queue.status(job_id) is Status.ABORTED


async def test_a_sync_job_is_asked_and_waited_for(app: App, workers: Workers, queue: Queue) -> None:
    started = threading.Event()

    @app.task(pass_context=True)
    def task(context: JobContext) -> None:
        started.set()
        while not context.should_abort():
            threading.Event().wait(0.005)
        assert context.abort_reason() is AbortReason.SHUTDOWN
        raise exceptions.JobAborted

    job_id = await task.defer_async()
    running = workers.start(shutdown_graceful_timeout=0)
    await happens(started)
    await running.stopped()
    assert queue.status(job_id) is Status.ABORTED


async def test_one_with_a_retry_strategy_is_run_by_the_next_worker(app: App, workers: Workers, queue: Queue) -> None:
    started = asyncio.Event()

    @app.task(retry=3, pass_context=True)
    async def task(context: JobContext) -> None:
        started.set()
        if context.job.attempts == 0:
            await asyncio.Event().wait()

    job_id = await task.defer_async()
    running = workers.start(shutdown_graceful_timeout=0.05)
    await happens(started)
    await running.stopped()
    assert queue.status(job_id) is Status.TODO
    await workers.run()
    assert queue.status(job_id) is Status.SUCCEEDED
    assert queue.row(job_id)["attempts"] == 2


async def test_a_job_that_ends_in_time_is_not_asked(app: App, workers: Workers, queue: Queue) -> None:
    gate = Gate(app)
    job_id = await gate.task.defer_async()
    running = workers.start(shutdown_graceful_timeout=10)
    await happens(gate.started)
    running.worker.stop()
    gate.release.set()
    await running.ended()
    assert queue.status(job_id) is Status.SUCCEEDED


# During the drain


async def test_while_it_drains_it_gives_signs_of_life_and_its_jobs_are_not_taken(
    app: App, workers: Workers, queue: Queue
) -> None:
    gate = Gate(app)
    job_id = await gate.task.defer_async()
    lively: dict[str, Any] = {"update_heartbeat_interval": 0.1, "stalled_worker_timeout": 0.8}
    running = workers.start(**lively)
    await happens(gate.started)
    running.worker.stop()
    stopped_at = queue.sql("SELECT now()")
    other = await workers.listening(queue, await workers.another_app("other"), queues=["none"], **lively)
    still_alive = "SELECT max(last_heartbeat) - :at > interval '2 seconds' FROM procrastinate_workers WHERE id = :id"
    await until(lambda: queue.sql(still_alive, at=stopped_at, id=running.worker.worker_id))
    assert queue.row(job_id)["status"] == "doing"
    gate.release.set()
    await running.ended()
    await other.stopped()
    assert queue.row(job_id)["attempts"] == 1
    assert queue.status(job_id) is Status.SUCCEEDED


@pytest.mark.parametrize(
    "options",
    [{}, {"listen_notify": False, "abort_job_polling_interval": 0.05}],
    ids=["by notification", "by poll"],
)
async def test_while_it_drains_jobs_can_be_aborted(
    app: App, workers: Workers, queue: Queue, options: dict[str, Any]
) -> None:
    gate = Gate(app)
    job_id = await gate.task.defer_async()
    running = workers.start(**options)
    await happens(gate.started)
    if not options:
        await until(queue.is_listening)
    running.worker.stop()
    await asyncio.sleep(0.01)
    assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    await running.ended()
    assert queue.status(job_id) is Status.ABORTED


async def test_a_middleware_may_stop_the_worker_after_two_jobs(app: App, workers: Workers, queue: Queue) -> None:
    count = 0

    async def stop_after_two(call_next: Any, context: JobContext, worker: Worker) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            worker.stop()
        return await call_next()

    await app.task(name="task")(lambda: None).batch_defer_async({}, {}, {})
    running = workers.start(worker_middleware=[stop_after_two])
    await running.ended()
    assert queue.statuses() == {"succeeded": 2, "todo": 1}
