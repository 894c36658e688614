"""A task that blocks the event loop of its worker: other workers run the jobs that this one has not started."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from procrastinate import core
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job
from procrastinate.worker.fetch.prefetch import Prefetch
from tests.worker.running import Queue, Workers, WorkerThread, happens, until


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first fetch takes up to ten jobs more than can start."""
    keep = Prefetch.keep

    def keep_first(self: Prefetch, jobs: Iterable[Job]) -> None:
        monkeypatch.setattr(Prefetch, "room", lambda self: 0)
        keep(self, jobs)

    monkeypatch.setattr(Prefetch, "room", lambda self: 10)
    monkeypatch.setattr(Prefetch, "keep", keep_first)


class Blocker:
    """A task that blocks the event loop, and another one that is done at once."""

    def __init__(self, app: App, database_url: str) -> None:
        self.started, self.release = threading.Event(), threading.Event()
        self.ran: Counter[int | None] = Counter()
        self.thread = WorkerThread(app, database_url, "blocked")
        self.block = app.task(name="block", pass_context=True)(self._block)
        self.quick = app.task(name="quick", pass_context=True)(self._quick)

    async def _block(self, context: JobContext) -> None:
        self.ran[context.job.id] += 1
        self.started.set()
        self.release.wait(60)

    async def _quick(self, context: JobContext) -> None:
        self.ran[context.job.id] += 1


@pytest.fixture
async def blocker(app: App, database_url: str, ahead: None) -> AsyncIterator[Blocker]:
    """Its worker has not started. The loop is free again after the test."""
    blocker = Blocker(app, database_url)
    yield blocker
    blocker.release.set()
    await blocker.thread.stopped()


def hold_up_fetches_of(queue: Queue, task_name: str) -> None:
    """Let the server execute no fetch of such a job until the lock of this session is released."""
    queue.sql("SELECT pg_advisory_lock(1)")
    queue.sql(
        "CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$"
    )
    queue.sql(
        "CREATE TRIGGER hold_up BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW "
        f"WHEN (NEW.status = 'doing' AND NEW.task_name = '{task_name}') EXECUTE FUNCTION hold_up()"
    )


def records(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return what was logged of the blocked loop."""
    return [vars(record) for record in caplog.records if vars(record).get("action") == "loop_blocked"]


async def test_other_workers_run_what_was_fetched_ahead_while_a_task_blocks_the_loop(
    workers: Workers, queue: Queue, blocker: Blocker
) -> None:
    blocking = await blocker.block.defer_async()
    quick = await blocker.quick.batch_defer_async(*[{}] * 6)
    blocker.thread.start()
    await happens(blocker.started)
    await until(lambda: queue.statuses() == {"doing": 1, "todo": 6})
    assert {queue.row(job_id)["attempts"] for job_id in quick} == {0}
    workers.start()
    await queue.succeeded(*quick)
    assert queue.statuses() == {"doing": 1, "succeeded": 6}
    blocker.release.set()
    await queue.succeeded(blocking)
    assert blocker.ran == dict.fromkeys([blocking, *quick], 1)
    assert {queue.row(job_id)["attempts"] for job_id in [blocking, *quick]} == {1}


async def test_a_worker_runs_jobs_again_after_its_loop_was_blocked(queue: Queue, blocker: Blocker) -> None:
    job_ids = [await blocker.block.defer_async(), *await blocker.quick.batch_defer_async(*[{}] * 3)]
    blocker.thread.start()
    await happens(blocker.started)
    await until(lambda: queue.statuses() == {"doing": 1, "todo": 3})
    blocker.release.set()
    await queue.succeeded(*job_ids)
    assert blocker.ran == dict.fromkeys(job_ids, 1)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_other_workers_run_the_jobs_in_slots_to_which_the_blocked_loop_has_not_come(
    app: App, workers: Workers, queue: Queue, database_url: str, kind: str
) -> None:
    """One fetch gives three jobs a slot, and the first blocks the loop before the others begin."""
    release, ran = threading.Event(), Counter[int | None]()
    thread = WorkerThread(app, database_url, "blocked", concurrency=3, prefetch=False)

    @app.task(name="block", priority=1)
    async def block() -> None:
        release.wait(60)

    async def count(context: JobContext) -> None:
        ran[context.job.id] += 1

    def count_in_thread(context: JobContext) -> None:
        ran[context.job.id] += 1

    quick = app.task(name="quick", pass_context=True)(count if kind == "async" else count_in_thread)
    ids = await quick.batch_defer_async({}, {})
    blocking = await block.defer_async()
    thread.start()
    try:
        await until(lambda: queue.statuses() == {"doing": 1, "todo": 2})
        assert {queue.row(job_id)["attempts"] for job_id in ids} == {0}
        workers.start()
        await queue.succeeded(*ids)
        assert queue.status(blocking) is Status.DOING
    finally:
        release.set()
        await thread.stopped()
    assert queue.status(blocking) is Status.SUCCEEDED
    assert ran == dict.fromkeys(ids, 1)


@pytest.mark.parametrize("executed", ["before the watch looks", "after the watch has looked"])
async def test_other_workers_run_the_jobs_of_a_fetch_whose_answer_the_blocked_loop_has_not_read(
    app: App, workers: Workers, queue: Queue, database_url: str, caplog: pytest.LogCaptureFixture, executed: str
) -> None:
    """A trigger holds the fetch up until the loop is blocked."""
    thread = WorkerThread(app, database_url, "blocked", concurrency=4, prefetch=False)
    started, go, blocked, release = (threading.Event() for _ in range(4))
    ran = Counter[int | None]()

    @app.task(name="block")
    async def block() -> None:
        started.set()
        await asyncio.to_thread(go.wait, 60)
        blocked.set()
        release.wait(60)

    @app.task(name="quick", pass_context=True)
    async def quick(context: JobContext) -> None:
        ran[context.job.id] += 1

    hold_up_fetches_of(queue, "quick")
    blocking = await block.defer_async()
    thread.start()
    try:
        await happens(started)
        ids = await quick.batch_defer_async({}, {})
        await until(lambda: queue.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        go.set()
        await happens(blocked)
        if executed == "after the watch has looked":
            await until(lambda: records(caplog))
        queue.sql("SELECT pg_advisory_unlock(1)")
        await until(lambda: sum(record["released"] for record in records(caplog)) == 2)
        assert queue.statuses() == {"doing": 1, "todo": 2}
        assert {queue.row(job_id)["attempts"] for job_id in ids} == {0}
        workers.start()
        await queue.succeeded(*ids)
        assert queue.status(blocking) is Status.DOING
    finally:
        release.set()
        await thread.stopped()
    assert queue.status(blocking) is Status.SUCCEEDED
    assert ran == dict.fromkeys(ids, 1)


async def test_a_warning_names_the_job_that_blocks_the_loop_and_its_line(
    queue: Queue, blocker: Blocker, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await blocker.block.defer_async()
    await blocker.quick.batch_defer_async(*[{}] * 3)
    blocker.thread.start()
    await until(lambda: records(caplog))
    record = records(caplog)[0]
    assert (record["jobs"], record["released"]) == ([job_id], 3)
    message = record["message"] if "message" in record else record["msg"] % record["args"]
    assert f"block[{job_id}]" in message
    assert "self.release.wait(60)" in record["stack_info"]
    assert "asyncio/base_events" not in record["stack_info"]


async def test_the_stack_of_a_job_that_blocks_the_loop_is_kept_unasked(
    app: App, queue: Queue, blocker: Blocker
) -> None:
    blocking = await blocker.block.defer_async()
    blocker.thread.start()
    await happens(blocker.started)
    await until(lambda: core.read_job_stack(queue.connection, blocking))
    stack = await app.job_manager.get_stack_async(blocking, timeout=0.1)
    assert (stack.attempt, "self.release.wait(60)" in stack.text) == (1, True)


async def test_outcomes_are_recorded_while_a_task_blocks_the_loop(app: App, queue: Queue, database_url: str) -> None:
    """Two jobs end in the turn of the loop in which the third blocks it: their outcomes are not written then."""
    thread = WorkerThread(app, database_url, "blocked", concurrency=3, prefetch=False)
    at_work, release, ends = threading.Semaphore(0), threading.Event(), asyncio.Event()

    @app.task(name="succeeds")
    async def succeeds() -> None:
        at_work.release()
        await ends.wait()

    @app.task(name="fails", retry=1)
    async def fails() -> None:
        at_work.release()
        await ends.wait()
        raise LookupError

    @app.task(name="block")
    async def block() -> None:
        await asyncio.to_thread(at_work.acquire)
        await asyncio.to_thread(at_work.acquire)
        await asyncio.sleep(0.3)  # the worker has written all that it can
        ends.set()
        await asyncio.sleep(0)
        release.wait(60)

    good, bad, blocking = [await one.defer_async() for one in (succeeds, fails, block)]
    thread.start()
    try:
        await queue.succeeded(good)
        await queue.reaches(bad, Status.TODO)
        assert queue.row(bad)["attempts"] == 1
        assert queue.status(blocking) is Status.DOING
    finally:
        release.set()
        await thread.stopped()
    assert queue.status(blocking) is Status.SUCCEEDED


async def test_an_abort_of_a_job_that_was_released_is_granted(app: App, queue: Queue, blocker: Blocker) -> None:
    await blocker.block.defer_async()
    (waiting,) = await blocker.quick.batch_defer_async({})
    blocker.thread.start()
    await happens(blocker.started)
    await until(lambda: queue.statuses().get("doing") == 2 or queue.statuses().get("todo") == 1)
    await app.job_manager.cancel_job_by_id_async(waiting, abort=True)
    await until(lambda: queue.statuses().get("doing") == 1 and "todo" not in queue.statuses())
    assert blocker.ran[waiting] == 0
