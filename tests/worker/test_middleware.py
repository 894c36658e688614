"""Middleware around the runs of tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.job_context import JobContext
from procrastinate.worker import Worker
from tests.worker.running import Queue, Workers


def sync_named(name: str, log: list[Any]) -> Any:
    def middleware(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        log.append((name, threading.current_thread() is threading.main_thread()))
        return call_next()

    return middleware


def async_named(name: str, log: list[Any]) -> Any:
    async def middleware(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        log.append((name, threading.current_thread() is threading.main_thread()))
        return await call_next()

    return middleware


async def test_the_workers_comes_first_then_what_it_has_for_tasks_then_the_tasks_own(
    app: App, workers: Workers
) -> None:
    log: list[Any] = []

    async def async_task() -> None:
        log.append(("task", True))

    def sync_task() -> None:
        log.append(("task", False))

    first = app.task(name="async", task_middleware=[async_named("own", log)])(async_task)
    second = app.task(name="sync", task_middleware=[sync_named("own", log)])(sync_task)
    await first.defer_async()
    await second.defer_async()
    await workers.run(
        worker_middleware=[async_named("worker 1", log), async_named("worker 2", log)],
        task_middleware=[async_named("async tasks", log), sync_named("sync tasks", log)],
    )
    assert log == [
        *[("worker 1", True), ("worker 2", True), ("async tasks", True), ("own", True), ("task", True)],
        *[("worker 1", True), ("worker 2", True), ("sync tasks", False), ("own", False), ("task", False)],
    ]


async def test_middleware_sees_the_context_and_the_worker(app: App, workers: Workers) -> None:
    seen: list[Any] = []

    async def look(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        seen.extend([context, worker])
        return await call_next()

    job_id = await app.task(name="task")(lambda: None).defer_async()
    worker = await workers.run(worker_middleware=[look])
    assert (seen[0].job.id, seen[0].app, seen[1]) == (job_id, app, worker)


async def test_middleware_may_change_the_result(app: App, workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    async def double(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        return 2 * await call_next()

    def add_one(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        return call_next() + 1

    caplog.set_level("DEBUG", logger="procrastinate")
    await app.task(name="task", task_middleware=[add_one])(lambda: 20).defer_async()
    await workers.run(worker_middleware=[double])
    (result,) = (vars(record)["result"] for record in caplog.records if vars(record)["action"] == "job_success")
    assert result == 42


@pytest.mark.parametrize("where", ["worker", "task"])
async def test_one_that_raises_fails_the_job(app: App, workers: Workers, queue: Queue, where: str) -> None:
    ran: list[int] = []

    async def refuse(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        raise SystemExit if context.job.task_kwargs["exit"] else ValueError

    async def run(exit: bool) -> None:
        ran.append(1)

    task = app.task(name="task")(run)
    ids = await task.batch_defer_async({"exit": True}, {"exit": False})
    await workers.run(**{f"{where}_middleware": [refuse]})
    assert [queue.status(job_id) for job_id in ids] == [Status.FAILED, Status.FAILED]
    assert ran == []


async def test_one_that_raises_can_be_retried(app: App, workers: Workers, queue: Queue) -> None:
    async def refuse_once(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        if context.job.attempts == 0:
            raise ValueError
        return await call_next()

    job_id = await app.task(name="task", retry=1)(lambda: None).defer_async()
    await workers.run(worker_middleware=[refuse_once])
    assert queue.status(job_id) is Status.SUCCEEDED


async def test_one_may_forgive(app: App, workers: Workers, queue: Queue) -> None:
    async def forgive(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        try:
            return await call_next()
        except ZeroDivisionError:
            return None

    job_id = await app.task(name="task")(lambda: 1 / 0).defer_async()
    await workers.run(worker_middleware=[forgive])
    assert queue.status(job_id) is Status.SUCCEEDED


async def test_one_may_have_a_time_limit(app: App, workers: Workers, queue: Queue) -> None:
    async def limit(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        async with asyncio.timeout(0.02):
            return await call_next()

    @app.task
    async def task() -> None:
        await asyncio.Event().wait()

    job_id = await task.defer_async()
    await workers.run(worker_middleware=[limit])
    assert queue.status(job_id) is Status.FAILED


async def test_a_sync_one_may_stop_the_worker_from_its_thread(app: App, workers: Workers, queue: Queue) -> None:
    def stop(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        worker.stop()
        return call_next()

    await app.task(name="task", task_middleware=[stop])(lambda: None).batch_defer_async({}, {})
    running = workers.start()
    await running.ended()
    assert queue.statuses() == {"succeeded": 1, "todo": 1}


async def test_worker_middleware_of_the_wrong_kind_is_refused_at_the_start(app: App) -> None:
    with pytest.raises(exceptions.MiddlewareKindMismatch):
        await app.run_worker_async(worker_middleware=[sync_named("wrong", [])])
