"""Jobs are stopped on request."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.job_context import AbortReason, JobContext
from tests.worker.running import Queue, Workers, happens, until

HOW = pytest.mark.parametrize(
    "options",
    [{"listen_notify": True}, {"listen_notify": False, "abort_job_polling_interval": 0.05}],
    ids=["by notification", "by poll"],
)


async def abort(app: App, job_id: int) -> None:
    assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)


async def start(workers: Workers, queue: Queue, **options: Any) -> None:
    """Start a worker, which hears, or polls."""
    if options.get("listen_notify", True):
        await workers.listening(queue, **options)
    else:
        workers.start(**options | {"fetch_job_polling_interval": 0.05})


@HOW
async def test_an_async_task_is_cancelled(app: App, workers: Workers, queue: Queue, options: dict[str, Any]) -> None:
    started = asyncio.Event()
    reasons: list[Any] = []

    @app.task(pass_context=True)
    async def task(context: JobContext) -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            reasons.append(context.abort_reason())
            raise

    await start(workers, queue, **options)
    job_id = await task.defer_async()
    await happens(started)
    await abort(app, job_id)
    assert await queue.reaches(job_id, Status.ABORTED, Status.FAILED) is Status.ABORTED
    assert reasons == [AbortReason.USER_REQUEST]
    assert queue.events(job_id) == ["deferred", "started", "abort_requested", "aborted"]
    assert queue.row(job_id)["abort_requested"] is False


@HOW
async def test_an_async_function_under_a_sync_decorator_is_cancelled(
    app: App, workers: Workers, queue: Queue, options: dict[str, Any]
) -> None:
    started = asyncio.Event()

    async def waits() -> None:
        started.set()
        await asyncio.Event().wait()

    @functools.wraps(waits)
    def wrapper() -> Any:
        return waits()

    task = app.task(name="wrapped")(wrapper)
    await start(workers, queue, **options)
    job_id = await task.defer_async()
    await happens(started)
    await abort(app, job_id)
    assert await queue.reaches(job_id, Status.ABORTED, Status.FAILED) is Status.ABORTED
    await queue.succeeded(await app.task(name="after")(lambda: None).defer_async())


async def test_the_coroutine_of_a_sync_task_does_not_start_after_the_request_to_stop(
    app: App, workers: Workers, queue: Queue
) -> None:
    started, ran = threading.Event(), threading.Event()

    async def runs() -> None:
        ran.set()

    @app.task(pass_context=True)
    def task(context: JobContext) -> Any:
        started.set()
        while not context.should_abort():
            threading.Event().wait(0.005)
        return runs()

    await workers.listening(queue)
    job_id = await task.defer_async()
    await happens(started)
    await abort(app, job_id)
    assert await queue.reaches(job_id, Status.ABORTED, Status.FAILED, Status.SUCCEEDED) is Status.ABORTED
    assert not ran.is_set()


@HOW
async def test_a_sync_task_can_ask(app: App, workers: Workers, queue: Queue, options: dict[str, Any]) -> None:
    started = threading.Event()
    never = threading.Event()

    @app.task(pass_context=True)
    def task(context: JobContext) -> None:
        started.set()
        while not context.should_abort():
            never.wait(0.005)
        assert context.abort_reason() is AbortReason.USER_REQUEST
        raise exceptions.JobAborted

    await start(workers, queue, **options)
    job_id = await task.defer_async()
    await happens(started)
    await abort(app, job_id)
    assert await queue.reaches(job_id, Status.ABORTED, Status.FAILED) is Status.ABORTED


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_job_that_is_aborted_is_not_tried_again(
    app: App, workers: Workers, queue: Queue, is_async: bool
) -> None:
    started = threading.Event()

    def sync_task(context: JobContext) -> None:
        started.set()
        while not context.should_abort():
            threading.Event().wait(0.005)
        raise exceptions.JobAborted

    async def async_task(context: JobContext) -> None:
        started.set()
        await asyncio.Event().wait()

    task = app.task(name="task", retry=True, pass_context=True)(async_task if is_async else sync_task)
    await workers.listening(queue)
    job_id = await task.defer_async()
    await happens(started)
    await abort(app, job_id)
    assert await queue.reaches(job_id, Status.ABORTED, Status.FAILED, Status.TODO) is Status.ABORTED


async def test_one_that_failed_though_it_was_aborted_can_be_sent_back_by_hand(
    app: App, workers: Workers, queue: Queue
) -> None:
    started, again = asyncio.Event(), asyncio.Event()

    @app.task(retry=True, pass_context=True)
    async def task(context: JobContext) -> None:
        if context.job.attempts:
            again.set()
            return
        try:
            started.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError from None

    await workers.listening(queue)
    job_id = await task.defer_async()
    await happens(started)
    await abort(app, job_id)
    await queue.failed(job_id)
    await app.job_manager.retry_job_by_id_async(job_id)
    await happens(again)
    await queue.succeeded(job_id)


async def test_a_job_that_does_not_listen_succeeds(app: App, workers: Workers, queue: Queue) -> None:
    started, asked = asyncio.Event(), asyncio.Event()

    @app.task
    async def stubborn() -> str:
        try:
            started.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            asked.set()
        await asyncio.sleep(0)
        return "done"

    await workers.listening(queue)
    job_id = await stubborn.defer_async()
    await happens(started)
    await abort(app, job_id)
    await happens(asked)
    await queue.succeeded(job_id)
    await queue.succeeded(await app.task(name="after")(lambda: None).defer_async())


async def test_only_the_job_that_is_meant_stops(app: App, workers: Workers, queue: Queue) -> None:
    started: list[int] = []
    release = asyncio.Event()

    @app.task
    async def task(number: int) -> None:
        started.append(number)
        await release.wait()

    await workers.listening(queue, concurrency=3)
    first, second, third = await task.batch_defer_async(*({"number": number} for number in range(3)))
    await until(lambda: len(started) == 3)
    await abort(app, second)
    await queue.reaches(second, Status.ABORTED)
    release.set()
    await queue.succeeded(first, third)


async def test_a_forged_or_malformed_notification_aborts_no_job(app: App, workers: Workers, queue: Queue) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @app.task
    async def task() -> None:
        started.set()
        await release.wait()

    await workers.listening(queue, concurrency=2)
    forged = await task.defer_async()
    await happens(started)
    for payload in (
        f'{{"type": "abort_job_requested", "job_id": {forged}}}',
        '{"type": "abort_job_requested"}',
        "[" * 7000,
    ):
        queue.sql("SELECT pg_notify('procrastinate_any_queue_v1', :payload)", payload=payload)
    # Polls do not come within the test. The abort is heard by the same listener, after the messages above.
    started.clear()
    requested = await task.defer_async()
    await happens(started)
    await abort(app, requested)
    await queue.reaches(requested, Status.ABORTED)
    assert queue.status(forged) is Status.DOING
    release.set()
    await queue.succeeded(forged)


async def test_a_job_that_waits_is_cancelled(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    kept = await task.defer_async()
    deleted = await task.defer_async()
    await abort(app, kept)
    assert await app.job_manager.cancel_job_by_id_async(deleted, delete_job=True)
    await workers.run()
    assert (queue.status(kept), queue.status(deleted)) == (Status.CANCELLED, None)


async def test_a_job_that_has_ended_cannot_be_cancelled(app: App, workers: Workers) -> None:
    job_id = await app.task(name="task")(lambda: None).defer_async()
    await workers.run()
    assert not await app.job_manager.cancel_job_by_id_async(job_id, abort=True)


async def test_an_abort_that_was_asked_for_before_the_first_line_runs_none(
    app: App, workers: Workers, queue: Queue
) -> None:
    ran: list[int] = []

    @app.task
    async def task() -> None:
        ran.append(1)

    async def abort_first(call_next: Any, context: JobContext, worker: Any) -> Any:
        await abort(app, context.job.id or 0)
        await until(context.should_abort)
        return await call_next()

    job_id = await task.defer_async()
    await workers.listening(queue, worker_middleware=[abort_first])
    assert await queue.reaches(job_id, Status.ABORTED, Status.SUCCEEDED, Status.FAILED) is Status.ABORTED
    assert ran == []


async def test_a_sync_job_is_not_interrupted_within_its_middleware(app: App, workers: Workers, queue: Queue) -> None:
    """Its thread goes on whatever happens to the coroutine that waits for it: that must go on waiting."""
    started, release = threading.Event(), threading.Event()

    @app.task
    def task() -> None:
        started.set()
        assert release.wait(10)

    await workers.listening(queue)
    job_id = await task.defer_async()
    await happens(started)
    await abort(app, job_id)
    await until(lambda: "abort_requested" in queue.events(job_id))
    assert queue.status(job_id) is Status.DOING
    release.set()
    await queue.succeeded(job_id)


async def test_an_old_request_does_not_stop_the_next_run(app: App, workers: Workers, queue: Queue) -> None:
    started = asyncio.Event()
    runs: list[int] = []

    @app.task(pass_context=True)
    async def task(context: JobContext) -> None:
        runs.append(context.job.attempts)
        if len(runs) == 1:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ValueError from None

    await workers.listening(queue, abort_job_polling_interval=0.05)
    job_id = await task.defer_async()
    await happens(started)
    await abort(app, job_id)
    await queue.failed(job_id)
    await app.job_manager.retry_job_by_id_async(job_id)
    await queue.succeeded(job_id)
    assert runs == [0, 1]
