"""Prefetched jobs are not lost, whatever happens while they wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.worker.fetch import prefetch, release, stock_schedule
from procrastinate.worker.fetch.prefetch import Prefetch
from procrastinate.worker.run import early_release
from tests.worker.running import NEVER, Queue, Workers, happens, until


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first non-empty fetch prefetch up to ten jobs."""
    keep = Prefetch.keep

    def keep_first(self: Prefetch, jobs: Iterable[Job]) -> None:
        monkeypatch.setattr(Prefetch, "room", lambda self: 0)
        keep(self, jobs)

    monkeypatch.setattr(Prefetch, "room", lambda self: 10)
    monkeypatch.setattr(Prefetch, "keep", keep_first)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, ahead: None) -> None:
    """Let prefetched jobs wait without a practical limit."""
    for module in (prefetch, early_release):
        monkeypatch.setattr(module, "LONGEST_WAIT", NEVER)


class Gate:
    """A task whose jobs wait until the gate opens."""

    def __init__(self, app: App) -> None:
        self.started: list[int] = []
        self.open = asyncio.Event()
        self.task = app.task(name="wait at the gate", pass_context=True)(self.wait)

    async def wait(self, context: JobContext) -> None:
        """Record that the job has started, and wait."""
        assert context.job.id is not None
        self.started.append(context.job.id)
        await self.open.wait()


@pytest.fixture
def gate(app: App) -> Gate:
    """Return a closed gate."""
    return Gate(app)


async def defer(gate: Gate, number: int) -> list[int]:
    """Defer `number` jobs, and return their ids."""
    return await gate.task.batch_defer_async(*[{}] * number)


def fetches(queue: Queue) -> int:
    """Return the number of fetches, from the distinct start times of the jobs."""
    return int(queue.sql("SELECT count(DISTINCT at) FROM procrastinate_events WHERE type = 'started'"))


async def test_short_jobs_are_fetched_many_at_a_time(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Independent of the machine's load: jobs count as short, and none waits for too long.
    monkeypatch.setattr(prefetch, "WINDOW", 10.0)
    for module in (prefetch, early_release):
        monkeypatch.setattr(module, "LONGEST_WAIT", NEVER)
    ran: list[int] = []

    @app.task
    async def short(number: int) -> None:
        ran.append(number)

    await short.batch_defer_async(*({"number": number} for number in range(400)))
    await workers.run()
    assert ran == list(range(400))
    assert queue.statuses() == {"succeeded": 400}
    assert fetches(queue) < 100


async def test_short_jobs_are_fetched_one_at_a_time_if_prefetching_is_off(
    app: App, workers: Workers, queue: Queue
) -> None:
    await app.task(name="short")(lambda: None).batch_defer_async(*[{}] * 40)
    await workers.run(prefetch=False)
    assert fetches(queue) == 40


async def test_long_jobs_are_not_fetched_ahead(app: App, workers: Workers, queue: Queue) -> None:
    @app.task
    async def long() -> None:
        await asyncio.sleep(0.03)

    await long.batch_defer_async(*[{}] * 15)
    await workers.run()
    assert fetches(queue) == 15


@pytest.mark.usefixtures("ahead")
async def test_jobs_behind_one_that_takes_long_go_to_another_worker(
    app: App, workers: Workers, queue: Queue, gate: Gate
) -> None:
    first, *others = await defer(gate, 5)
    workers.start()
    await until(lambda: gate.started == [first])
    await until(lambda: queue.statuses() == {"doing": 1, "todo": 4})
    assert queue.events(others[0]) == ["deferred", "started", "deferred_for_retry"]
    workers.start(concurrency=4)
    await until(lambda: gate.started == [first, *others])
    gate.open.set()
    await queue.succeeded(first, *others)
    assert {queue.row(job_id)["attempts"] for job_id in others} == {1}


@pytest.mark.usefixtures("patient")
async def test_no_more_run_at_once_than_there_are_slots(workers: Workers, queue: Queue, gate: Gate) -> None:
    job_ids = await defer(gate, 6)
    running = workers.start(concurrency=2)
    await until(lambda: gate.started == job_ids[:2])
    await until(lambda: queue.statuses() == {"doing": 6})
    assert running.runs == 2
    gate.open.set()
    await queue.succeeded(*job_ids)
    assert gate.started == job_ids


@pytest.mark.usefixtures("patient")
async def test_a_worker_that_stops_gives_them_back_at_once(workers: Workers, queue: Queue, gate: Gate) -> None:
    first, *others = await defer(gate, 4)
    running = workers.start()
    await until(lambda: gate.started == [first])
    await until(lambda: queue.statuses() == {"doing": 4})
    running.worker.stop()
    await until(lambda: queue.statuses() == {"doing": 1, "todo": 3})
    gate.open.set()
    await running.ended()
    assert gate.started == [first]
    assert queue.statuses() == {"succeeded": 1, "todo": 3}
    assert {queue.row(job_id)["attempts"] for job_id in others} == {0}


@pytest.mark.usefixtures("patient")
async def test_one_that_does_not_wait_runs_them_all(workers: Workers, queue: Queue, gate: Gate) -> None:
    job_ids = await defer(gate, 6)
    gate.open.set()
    await workers.run()
    assert gate.started == job_ids
    assert queue.statuses() == {"succeeded": 6}


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("hears_of_it", [True, False])
async def test_a_request_to_abort_is_granted_before_they_start(
    app: App, workers: Workers, queue: Queue, gate: Gate, hears_of_it: bool
) -> None:
    first, second, third = await defer(gate, 3)
    if hears_of_it:
        workers.start()
        await until(queue.is_listening)
    else:
        workers.start(listen_notify=False, abort_job_polling_interval=0.05)
    await until(lambda: gate.started == [first])
    assert queue.statuses() == {"doing": 3}
    assert await app.job_manager.cancel_job_by_id_async(second, abort=True)
    await queue.reaches(second, Status.ABORTED)
    assert queue.status(first) is Status.DOING
    gate.open.set()
    await queue.succeeded(first, third)
    assert gate.started == [first, third]


@pytest.mark.usefixtures("patient")
async def test_the_secret_arguments_of_a_job_aborted_before_its_start_are_not_logged(
    app: App, workers: Workers, queue: Queue, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "procrastinate")
    pay = app.task(name="pay", log_arguments=False)(lambda card: None)
    (first,) = await defer(gate, 1)
    second = await pay.defer_async(card="4111 1111")
    await workers.listening(queue)
    await until(lambda: gate.started == [first])
    assert await app.job_manager.cancel_job_by_id_async(second, abort=True)
    await queue.reaches(second, Status.ABORTED)
    gate.open.set()
    await queue.succeeded(first)
    assert f"Job pay[{second}](...) was aborted before it started" in caplog.text
    assert "4111 1111" not in caplog.text + str([vars(record) for record in caplog.records])


@pytest.mark.usefixtures("patient")
async def test_a_job_that_outranks_them_starts_before_them(
    app: App, workers: Workers, queue: Queue, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await defer(gate, 2)
    running = await workers.listening(queue)
    await until(lambda: gate.started == [first])
    kept: list[int | None] = []
    keep = Prefetch.keep

    def keep_and_tell(self: Prefetch, jobs: list[Job]) -> None:
        keep(self, jobs)
        kept.extend(job.id for job in jobs)

    monkeypatch.setattr(Prefetch, "room", lambda self: 5)
    monkeypatch.setattr(Prefetch, "keep", keep_and_tell)
    urgent = await gate.task.configure(priority=1).defer_async()
    await until(lambda: kept == [urgent])
    gate.open.set()
    await queue.succeeded(first, second, urgent)
    assert gate.started == [first, urgent, second]
    await running.stopped()


@pytest.mark.usefixtures("patient")
async def test_no_more_are_fetched_than_the_worker_may_still_run(workers: Workers, queue: Queue, gate: Gate) -> None:
    await defer(gate, 6)
    running = workers.start(max_jobs=3)
    await until(lambda: queue.statuses() == {"doing": 3, "todo": 3})
    gate.open.set()
    await running.ended()
    assert queue.statuses() == {"succeeded": 3, "todo": 3}


@pytest.mark.usefixtures("patient")
async def test_nothing_waits_behind_a_job_that_was_run_before(workers: Workers, queue: Queue, gate: Gate) -> None:
    """Such a job may crash the worker. Jobs prefetched behind it would be rescued too often, and then fail."""
    suspect, *others = await defer(gate, 4)
    queue.sql("UPDATE procrastinate_jobs SET attempts = 1 WHERE id = :id", id=suspect)
    workers.start()
    await until(lambda: gate.started == [suspect])
    await until(lambda: queue.statuses() == {"doing": 1, "todo": 3})
    gate.open.set()
    await queue.succeeded(suspect, *others)


@pytest.mark.usefixtures("patient")
async def test_jobs_that_were_run_before_run_side_by_side(workers: Workers, queue: Queue, gate: Gate) -> None:
    job_ids = await defer(gate, 3)
    queue.sql("UPDATE procrastinate_jobs SET attempts = 1")
    workers.start(concurrency=3)
    await until(lambda: gate.started == job_ids)
    gate.open.set()
    await queue.succeeded(*job_ids)
    assert fetches(queue) == 1


@pytest.mark.usefixtures("patient")
async def test_they_hold_their_locks_while_they_wait(app: App, workers: Workers, queue: Queue, gate: Gate) -> None:
    first = await gate.task.defer_async()
    held = await gate.task.configure(lock="l").defer_async()
    behind = await gate.task.configure(lock="l").defer_async()
    workers.start()
    await until(lambda: queue.statuses() == {"doing": 2, "todo": 1})
    assert queue.status(behind) is Status.TODO
    gate.open.set()
    await queue.succeeded(first, held, behind)
    assert gate.started == [first, held, behind]


@pytest.mark.usefixtures("patient")
async def test_a_worker_that_was_taken_for_dead_does_not_start_them(workers: Workers, queue: Queue, gate: Gate) -> None:
    """Its prefetched jobs may belong to other workers."""
    first, second, third = await defer(gate, 3)
    workers.start(update_heartbeat_interval=0.05, stalled_worker_timeout=NEVER)
    await until(lambda: gate.started == [first])
    queue.sql("DELETE FROM procrastinate_workers")
    await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_workers") == 1)
    await until(lambda: queue.statuses() == {"todo": 3})
    gate.open.set()
    await queue.succeeded(first, second, third)
    assert sorted(gate.started) == [first, first, second, third]


@pytest.mark.usefixtures("ahead")
async def test_when_the_answer_to_giving_back_is_lost_they_are_not_lost(
    workers: Workers, queue: Queue, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **__: Any) -> Any:
        raise exceptions.DatabaseUnavailable("Gone")

    monkeypatch.setattr(JobManager, "release_jobs", refuse)
    job_ids = await defer(gate, 3)
    workers.start()
    await until(lambda: gate.started == job_ids[:1])
    gate.open.set()
    await queue.succeeded(*job_ids)
    assert sorted(gate.started) == job_ids


@pytest.mark.usefixtures("ahead")
@pytest.mark.parametrize("tries", [5, 1], ids=["for a moment", "for longer"])
async def test_one_whose_row_is_locked_when_it_is_released_follows_soon(
    workers: Workers, queue: Queue, gate: Gate, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    """Another try releases the job, or the worker returns it as unknown, which counts as an attempt."""
    monkeypatch.setattr(release, "_TRIES", tries)
    monkeypatch.setattr(release, "_LOCKED_PAUSE", 0.5)
    monkeypatch.setattr(stock_schedule, "_STOCK_INTERVAL", NEVER)
    release_jobs = JobManager.release_jobs
    first, second, third = await defer(gate, 3)
    with engine.connect() as other:

        async def release_when_locked(*args: Any, **kwargs: Any) -> Any:
            if not other.in_transaction():
                lock_row(other, third)
            released = await release_jobs(*args, **kwargs)
            monkeypatch.setattr(JobManager, "release_jobs", release_jobs)
            return released

        monkeypatch.setattr(JobManager, "release_jobs", release_when_locked)
        workers.start()
        await until(lambda: gate.started == [first] and queue.status(second) is Status.TODO)
        assert queue.status(third) is Status.DOING
    await until(lambda: queue.status(third) is Status.TODO)
    assert queue.row(third)["attempts"] == (0 if tries > 1 else 1)
    gate.open.set()


def lock_row(connection: sa.Connection, job_id: int) -> None:
    """Lock a row, like an open transaction of a user."""
    connection.execute(sa.text("SELECT 1 FROM procrastinate_jobs WHERE id = :id FOR UPDATE"), {"id": job_id})


@pytest.mark.usefixtures("patient")
async def test_jobs_that_come_when_the_worker_has_stopped_are_released(
    workers: Workers, queue: Queue, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker stops while a fetch is running."""
    fetched, go_on = asyncio.Event(), asyncio.Event()
    fetch_jobs = JobManager.fetch_jobs

    async def fetch_slowly(*args: Any, **kwargs: Any) -> Any:
        jobs = await fetch_jobs(*args, **kwargs)
        fetched.set()
        await go_on.wait()
        return jobs

    monkeypatch.setattr(JobManager, "fetch_jobs", fetch_slowly)
    await defer(gate, 3)
    running = workers.start()
    await happens(fetched)
    running.worker.stop()
    go_on.set()
    await running.ended()
    assert gate.started == []
    assert queue.statuses() == {"todo": 3}
