"""Observers, spans and check-ins learn the end of each run, however it ends, and learn it once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sentry_sdk

from procrastinate import exceptions, run_observers
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.retry import RetryStrategy
from procrastinate.run_observers import ObservedRun
from procrastinate.worker.run.threads import NoThread, TaskThreads
from tests.worker.running import Queue, Workers, happens, soon, until
from tests.worker.test_prefetch import ahead, patient
from tests.worker.test_sentry import start, without_sentry

assert all((ahead, patient, without_sentry))

Ends = list[tuple[str, str, str | None]]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    """Return the ends that observers learn: task, status, exception. The block of a run ends after them."""
    found: Ends = []

    @contextlib.contextmanager
    def observe(run: ObservedRun) -> Iterator[None]:
        def end(status: Status, exception: BaseException | None) -> None:
            found.append((run.job.task_name, status.value, None if exception is None else type(exception).__name__))

        run.on_end.append(end)
        yield

    monkeypatch.setattr(run_observers, "EVERYWHERE", [observe])
    return found


def returns() -> None:
    """Do nothing."""


def raises() -> None:
    """Fail."""
    raise ValueError


def stops() -> None:
    """Abort."""
    raise exceptions.JobAborted


@pytest.mark.parametrize(
    ("task", "options", "expected"),
    [
        (returns, {}, [("succeeded", None)]),
        (lambda: object(), {"store_result": True}, [("failed", "InvalidResult")]),
        (raises, {}, [("failed", "ValueError")]),
        (raises, {"retry": RetryStrategy(max_attempts=1)}, [("todo", "ValueError"), ("failed", "ValueError")]),
        (stops, {}, [("aborted", "JobAborted")]),
    ],
    ids=["success", "result that cannot be stored", "failure", "retry", "abort"],
)
async def test_the_end_of_a_run_is_told_once(
    app: App,
    workers: Workers,
    ends: Ends,
    task: Callable[[], Any],
    options: dict[str, Any],
    expected: list[tuple[str, str | None]],
) -> None:
    await app.task(name="t", **options)(task).defer_async()
    await workers.run()
    assert ends == [("t", *one) for one in expected]


async def test_a_timeout_is_told_once(app: App, workers: Workers, ends: Ends) -> None:
    """The thread of a sync task goes on and returns later."""
    may_end = threading.Event()
    app.task(name="async", timeout=0.05)(asyncio.Event().wait)
    app.task(name="sync", timeout=0.05)(may_end.wait)
    for name in ("async", "sync"):
        await app.configure_task(name).defer_async()
    running = workers.start(wait=False)
    await until(lambda: len(ends) == 2)
    may_end.set()
    await running.ended()
    assert sorted(ends) == [("async", "failed", "TaskTimeout"), ("sync", "failed", "TaskTimeout")]


async def test_a_job_of_an_unknown_task_is_told_when_it_fails(app: App, workers: Workers, ends: Ends) -> None:
    await app.configure_task("unknown").defer_async()
    await workers.run(unknown_task_timeout=0)
    assert ends == [("unknown", "failed", "TaskNotFound")]


async def test_a_released_job_is_told_without_an_exception(
    app: App, workers: Workers, ends: Ends, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system refuses the first thread."""
    run, refused = TaskThreads.run, asyncio.Event()

    async def refuse_once(self: TaskThreads, *arguments: Any) -> Any:
        if not refused.is_set():
            refused.set()
            raise NoThread
        return await run(self, *arguments)

    monkeypatch.setattr(TaskThreads, "run", refuse_once)
    await app.task(name="t")(returns).defer_async()
    workers.start()
    await happens(refused)
    await until(lambda: ends)
    assert ends == [("t", "todo", None)]


async def test_a_run_that_its_worker_cuts_short_is_told(app: App, workers: Workers, ends: Ends) -> None:
    """An async job is cancelled. A thread cannot be stopped."""
    begun, may_end = [asyncio.Event(), threading.Event()], threading.Event()

    @app.task(name="cancelled")
    async def cancelled() -> None:
        begun[0].set()  # type: ignore[union-attr]
        await asyncio.Event().wait()

    @app.task(name="left")
    def left() -> None:
        begun[1].set()
        may_end.wait(30)

    await cancelled.defer_async()
    await left.defer_async()
    running = workers.start(concurrency=2)
    for event in begun:
        await happens(event)
    await cut(running)
    may_end.set()
    assert sorted(ends) == [("cancelled", "todo", "WorkerLost"), ("left", "doing", None)]


async def cut(running: Any) -> None:
    """Cancel a worker twice, which ends it at once."""
    running.task.cancel()
    await asyncio.sleep(0.05)
    running.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await soon(running.task)


async def test_a_run_that_outlasts_its_worker_is_told_before_the_worker_ends(
    app: App, workers: Workers, ends: Ends
) -> None:
    """The task swallows its cancellation, and ends later."""
    begun, may_end, has_ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.task(name="stubborn")
    async def stubborn() -> None:
        begun.set()
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()
        has_ended.set()

    await stubborn.defer_async()
    running = workers.start()
    await happens(begun)
    await cut(running)
    assert ends == [("stubborn", "doing", None)]
    may_end.set()
    await happens(has_ended)
    await asyncio.sleep(0)
    assert len(ends) == 1


@pytest.mark.usefixtures("patient")
async def test_a_prefetched_job_that_is_aborted_is_told(app: App, workers: Workers, queue: Queue, ends: Ends) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    @app.task(name="first")
    async def first() -> None:
        begun.set()
        await may_end.wait()

    await first.defer_async()
    second = await app.task(name="prefetched")(returns).defer_async()
    await workers.listening(queue, concurrency=1)
    await happens(begun)
    assert await app.job_manager.cancel_job_by_id_async(second, abort=True)
    await queue.reaches(second, Status.ABORTED)
    await until(lambda: ends)  # observers are told after the record
    assert ends == [("prefetched", "aborted", "JobAborted")]
    may_end.set()


async def test_a_run_that_is_cut_short_ends_its_transaction(app: App, workers: Workers) -> None:
    kept = start()
    begun, may_end = asyncio.Event(), asyncio.Event()

    @app.task(name="stubborn")
    async def stubborn() -> None:
        begun.set()
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()

    job_id = await stubborn.defer_async()
    running = workers.start()
    await happens(begun)
    await cut(running)
    run = kept.run_of("stubborn")
    assert run["contexts"]["trace"]["status"] == "aborted"
    assert run["tags"]["procrastinate_job_id"] == str(job_id)
    assert [span["op"] for span in run["spans"]] == ["queue.process"]
    may_end.set()
    await asyncio.sleep(0.01)
    assert (len(kept.transactions), kept.events) == (1, [])
    assert sentry_sdk.is_initialized()


async def test_a_step_that_does_not_start_is_told_and_has_no_transaction(
    app: App, workers: Workers, ends: Ends
) -> None:
    kept = start()
    wf = app.workflow("import")
    wf.add(app.task(name="step")(returns))
    workflow_id = await wf.defer_async()
    assert await app.job_manager.begin_cancel_async(workflow_id)
    await workers.run()
    assert ends == [("step", "cancelled", None)]
    assert kept.transactions == []
