"""Runs that take longer than the timeout of their task."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.job_context import AbortReason, JobContext
from procrastinate.retry import BaseRetryStrategy, RetryDecision, RetryStrategy
from procrastinate.worker import Worker
from tests.worker.running import NEVER, Queue, Workers, happens, until

SHORT = 0.05
"""Seconds. A timeout that passes in a test."""

KINDS = pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])


class Endless:
    """A task of either kind that goes on until it is let go, whatever its timeout is."""

    def __init__(self, app: App, *, is_async: bool, timeout: float = SHORT, **options: Any) -> None:
        self.started = threading.Event()
        self.release = threading.Event()
        self.runs = 0
        self.raises: Exception | None = None
        self.contexts: list[JobContext] = []
        function = self._async if is_async else self._sync
        self.task = app.task(name="endless", timeout=timeout, pass_context=True, **options)(function)

    def _sync(self, context: JobContext) -> None:
        self._start(context)
        assert self.release.wait(10)
        if self.raises is not None:
            raise self.raises

    async def _async(self, context: JobContext) -> None:
        self._start(context)
        await asyncio.Event().wait()

    def _start(self, context: JobContext) -> None:
        self.runs += 1
        self.contexts.append(context)
        self.started.set()


class Seen(BaseRetryStrategy):
    """Remembers what was raised, and retries nothing."""

    def __init__(self) -> None:
        self.exceptions: list[BaseException] = []

    def get_retry_decision(self, *, exception: BaseException, job: Any) -> RetryDecision | None:
        self.exceptions.append(exception)
        return None


@pytest.fixture
def sync_task(app: App) -> Iterator[Callable[..., Endless]]:
    """Makes sync tasks that are let go at the end of the test."""
    made: list[Endless] = []

    def make(**options: Any) -> Endless:
        made.append(Endless(app, is_async=False, **options))
        return made[-1]

    yield make
    for one in made:
        one.release.set()


def discarded(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if vars(record).get("action") == "discard_late_result"]


@KINDS
async def test_a_run_that_ends_in_time_has_succeeded(app: App, workers: Workers, queue: Queue, is_async: bool) -> None:
    async def async_task() -> None:
        await asyncio.sleep(0)

    task = app.task(name="task", timeout=60)(async_task if is_async else lambda: None)
    job_id = await task.defer_async()
    await workers.run()
    assert queue.status(job_id) is Status.SUCCEEDED


@KINDS
async def test_one_that_does_not_has_raised_a_timeout(app: App, workers: Workers, queue: Queue, is_async: bool) -> None:
    seen = Seen()
    endless = Endless(app, is_async=is_async, retry=seen)
    await workers.listening(queue, concurrency=2)
    job_id = await endless.task.defer_async()
    await queue.failed(job_id)
    endless.release.set()
    (error,) = seen.exceptions
    assert isinstance(error, exceptions.TaskTimeout)
    assert isinstance(error, TimeoutError)
    assert str(error).startswith("Task endless took longer than its timeout of 50 ms")
    assert endless.contexts[0].abort_reason() is AbortReason.TIMEOUT
    assert endless.contexts[0].should_abort()


@KINDS
async def test_a_job_out_of_time_is_tried_again_as_the_strategy_says(
    app: App, workers: Workers, queue: Queue, is_async: bool
) -> None:
    strategy = RetryStrategy(max_attempts=1, retry_exceptions=[exceptions.TaskTimeout])
    endless = Endless(app, is_async=is_async, retry=strategy)
    await workers.listening(queue, concurrency=3)
    job_id = await endless.task.defer_async()
    await queue.failed(job_id)
    endless.release.set()
    assert (endless.runs, queue.row(job_id)["attempts"]) == (2, 2)


async def test_a_sync_function_that_hands_back_a_coroutine_is_limited_as_a_whole(
    app: App, workers: Workers, queue: Queue
) -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    job_id = await app.task(name="task", timeout=SHORT)(lambda: wait()).defer_async()
    await workers.run()
    assert queue.status(job_id) is Status.FAILED
    (error,) = (await app.job_manager.get_result_async(job_id)).errors
    assert error.message == "Task task took longer than its timeout of 50 ms"  # no thread goes on


# Async tasks


@pytest.mark.parametrize("error", [None, ValueError("Nope"), exceptions.JobAborted(), SystemExit()])
async def test_a_task_that_swallows_its_cancellation_has_timed_out_all_the_same(
    app: App, workers: Workers, queue: Queue, error: BaseException | None
) -> None:
    seen, reasons = Seen(), []

    @app.task(name="stubborn", timeout=SHORT, retry=seen, pass_context=True)
    async def stubborn(context: JobContext) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            reasons.append(context.abort_reason())
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return "done"

    job_id = await stubborn.defer_async()
    after = await app.task(name="after")(lambda: None).defer_async()
    await workers.run()
    assert (queue.status(job_id), queue.status(after)) == (Status.FAILED, Status.SUCCEEDED)
    assert [type(one) for one in seen.exceptions] == [exceptions.TaskTimeout]
    assert seen.exceptions[0].__context__ is error
    assert reasons == [AbortReason.TIMEOUT]


async def test_a_timeout_of_the_tasks_own_is_an_error_like_any_other(app: App, workers: Workers, queue: Queue) -> None:
    seen = Seen()

    @app.task(timeout=NEVER, retry=seen)
    async def task() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    job_id = await task.defer_async()
    await workers.run()
    assert queue.status(job_id) is Status.FAILED
    assert [type(one) for one in seen.exceptions] == [TimeoutError]


# Sync tasks


async def test_what_the_thread_does_later_is_discarded_with_a_warning(
    workers: Workers, queue: Queue, sync_task: Callable[..., Endless], caplog: pytest.LogCaptureFixture
) -> None:
    endless = sync_task()
    endless.raises = ValueError("Too late")
    await workers.listening(queue)
    job_id = await endless.task.defer_async()
    await queue.failed(job_id)
    before = queue.row(job_id)
    assert discarded(caplog) == []
    endless.release.set()
    (record,) = await until(lambda: discarded(caplog))
    assert record.levelno == logging.WARNING
    assert f"endless[{job_id}]" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is endless.raises
    assert queue.row(job_id) == before


async def test_the_thread_of_a_job_out_of_time_keeps_its_slot_until_it_returns(
    app: App, workers: Workers, queue: Queue, sync_task: Callable[..., Endless]
) -> None:
    endless = sync_task()
    await workers.listening(queue, concurrency=2)
    job_id = await endless.task.defer_async()
    await queue.failed(job_id)
    at_once, most = 0, 0
    steps = threading.Lock()

    @app.task
    def count() -> None:
        nonlocal at_once, most
        with steps:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.01)
        with steps:
            at_once -= 1

    await queue.succeeded(*await count.batch_defer_async(*[{} for _ in range(10)]))
    assert most == 1
    endless.release.set()


async def test_a_worker_whose_slots_are_all_kept_goes_on_when_one_returns(
    app: App, workers: Workers, queue: Queue, sync_task: Callable[..., Endless]
) -> None:
    endless = sync_task()

    @app.task
    async def after() -> None: ...

    running = await workers.listening(queue, fetch_job_polling_interval=0.02)
    job_id = await endless.task.defer_async()
    await queue.failed(job_id)
    waiting = await after.defer_async()
    await asyncio.sleep(0.1)  # several polls
    assert (queue.status(waiting), running.runs) == (Status.TODO, 0)
    endless.release.set()
    await queue.succeeded(waiting)


async def test_a_worker_whose_slots_are_all_kept_says_so_until_one_returns(
    workers: Workers, queue: Queue, sync_task: Callable[..., Endless], caplog: pytest.LogCaptureFixture
) -> None:
    endless = sync_task()
    await workers.listening(queue)
    await queue.failed(await endless.task.defer_async())
    (record,) = await until(lambda: [one for one in caplog.records if vars(one).get("action") == "slots_lost"])
    assert record.levelno == logging.WARNING
    assert "go on in all its slots (1)" in record.getMessage()
    endless.release.set()
    await queue.succeeded(await endless.task.defer_async())


# Others that want the job to stop


@KINDS
async def test_a_user_aborts_it_before_its_time_is_over(
    app: App, workers: Workers, queue: Queue, is_async: bool
) -> None:
    endless = Endless(app, is_async=is_async, timeout=NEVER, retry=True)
    endless.raises = exceptions.JobAborted()
    await workers.listening(queue)
    job_id = await endless.task.defer_async()
    await happens(endless.started)
    assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    await until(endless.contexts[0].should_abort)
    endless.release.set()
    assert await queue.reaches(job_id, Status.ABORTED, Status.FAILED, Status.TODO) is Status.ABORTED
    assert endless.contexts[0].abort_reason() is AbortReason.USER_REQUEST


async def test_a_sync_task_that_ignores_its_abort_is_aborted_when_its_time_is_over(
    app: App, workers: Workers, queue: Queue, sync_task: Callable[..., Endless]
) -> None:
    endless = sync_task(timeout=2.0, retry=True)
    await workers.listening(queue)
    job_id = await endless.task.defer_async()
    await happens(endless.started)
    assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    assert await queue.reaches(job_id, Status.ABORTED, Status.FAILED, Status.TODO) is Status.ABORTED


async def test_a_user_may_abort_what_is_out_of_time_and_does_not_end(app: App, workers: Workers, queue: Queue) -> None:
    cleaning = asyncio.Event()

    @app.task(timeout=SHORT, retry=True)
    async def task() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await asyncio.Event().wait()

    await workers.listening(queue)
    job_id = await task.defer_async()
    await happens(cleaning)
    assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    assert await queue.reaches(job_id, Status.ABORTED, Status.FAILED, Status.TODO) is Status.ABORTED


@KINDS
async def test_a_worker_that_stops_waits_no_longer_than_the_timeout(
    app: App, workers: Workers, queue: Queue, is_async: bool
) -> None:
    endless = Endless(app, is_async=is_async, timeout=0.2)
    running = workers.start()
    job_id = await endless.task.defer_async()
    await happens(endless.started)
    await running.stopped()
    assert queue.status(job_id) is Status.FAILED
    endless.release.set()


async def test_a_worker_that_stops_does_not_wait_for_a_thread_that_was_left(
    workers: Workers, queue: Queue, sync_task: Callable[..., Endless], caplog: pytest.LogCaptureFixture
) -> None:
    endless = sync_task()
    running = await workers.listening(queue)
    job_id = await endless.task.defer_async()
    await queue.failed(job_id)
    await running.stopped()
    assert discarded(caplog) == []
    endless.release.set()
    await until(lambda: discarded(caplog))


async def test_a_shutdown_stops_what_is_out_of_time_and_does_not_end(app: App, workers: Workers, queue: Queue) -> None:
    cleaning = asyncio.Event()

    @app.task(timeout=SHORT)
    async def task() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await asyncio.Event().wait()

    running = workers.start(shutdown_graceful_timeout=0.01)
    job_id = await task.defer_async()
    await happens(cleaning)
    await running.stopped()
    assert queue.status(job_id) is Status.FAILED


# Middleware


@KINDS
async def test_task_middleware_is_within_the_limit_and_worker_middleware_around_it(
    app: App, workers: Workers, queue: Queue, is_async: bool
) -> None:
    log: list[str] = []
    release = threading.Event()

    async def around(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        try:
            return await call_next()
        except exceptions.TaskTimeout as error:
            log.append(type(error).__name__)
            await asyncio.sleep(0)  # it can go on as it likes
            raise

    async def slow(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        await asyncio.Event().wait()

    def sync_slow(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        release.wait(10)

    async def async_function() -> None: ...

    task = app.task(name="task", timeout=SHORT, task_middleware=[slow if is_async else sync_slow])(
        async_function if is_async else lambda: None
    )
    await workers.listening(queue, worker_middleware=[around])
    job_id = await task.defer_async()
    await queue.failed(job_id)
    release.set()
    assert log == ["TaskTimeout"]


@KINDS
async def test_worker_middleware_may_forgive_a_timeout(
    app: App, workers: Workers, queue: Queue, is_async: bool
) -> None:
    async def forgive(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        try:
            return await call_next()
        except exceptions.TaskTimeout:
            return None

    endless = Endless(app, is_async=is_async)
    await workers.listening(queue, worker_middleware=[forgive])
    job_id = await endless.task.defer_async()
    await queue.succeeded(job_id)
    endless.release.set()


async def test_worker_middleware_takes_no_time_of_the_task(app: App, workers: Workers, queue: Queue) -> None:
    async def slow(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        await asyncio.sleep(3 * SHORT)
        result = await call_next()
        await asyncio.sleep(3 * SHORT)
        return result

    @app.task(timeout=2 * SHORT)
    async def task() -> None: ...

    job_id = await task.defer_async()
    await workers.run(worker_middleware=[slow])
    assert queue.status(job_id) is Status.SUCCEEDED
