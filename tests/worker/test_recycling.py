"""A worker ends after `max_jobs` jobs."""

from __future__ import annotations

import asyncio

import pytest

from procrastinate.app import App
from procrastinate.core import Status
from tests.worker.running import Queue, Workers, until


@pytest.mark.parametrize("concurrency", [1, 2, 10])
async def test_a_worker_ends_by_itself_after_max_jobs(
    app: App, workers: Workers, queue: Queue, concurrency: int
) -> None:
    await app.task(name="task")(lambda: None).batch_defer_async(*[{} for _ in range(5)])
    running = workers.start(max_jobs=3, concurrency=concurrency)
    await running.ended()
    assert queue.statuses() == {"succeeded": 3, "todo": 2}
    assert queue.sql("SELECT count(*) FROM procrastinate_events WHERE type = 'started'") == 3
    assert queue.sql("SELECT count(*) FROM procrastinate_workers") == 0
    assert running.worker.stop_requested


async def test_a_worker_never_fetches_more_than_max_jobs_leaves_it_to_run(
    app: App, workers: Workers, queue: Queue
) -> None:
    started: list[int] = []
    release = asyncio.Event()

    @app.task
    async def task(number: int) -> None:
        started.append(number)
        await release.wait()

    await task.batch_defer_async(*({"number": number} for number in range(5)))
    running = workers.start(max_jobs=3, concurrency=10)
    await until(lambda: len(started) == 3)
    assert queue.statuses() == {"doing": 3, "todo": 2}
    assert not running.task.done()
    release.set()
    await running.ended()
    assert queue.statuses() == {"succeeded": 3, "todo": 2}


async def test_jobs_that_come_one_by_one_are_counted_too(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    running = await workers.listening(queue, max_jobs=2, concurrency=5)
    await queue.succeeded(await task.defer_async())
    assert not running.task.done()
    await queue.succeeded(await task.defer_async())
    await running.ended()


async def test_a_retry_counts(app: App, workers: Workers, queue: Queue) -> None:
    @app.task(retry=True)
    async def task() -> None:
        raise ValueError

    job_id = await task.defer_async()
    await workers.start(max_jobs=3).ended()
    assert queue.status(job_id) is Status.TODO
    assert queue.row(job_id)["attempts"] == 3


async def test_one_that_does_not_wait_ends_at_whichever_comes_first(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    await task.batch_defer_async({}, {}, {})
    await workers.run(max_jobs=2)
    assert queue.statuses() == {"succeeded": 2, "todo": 1}
    await workers.run(max_jobs=2)
    assert queue.statuses() == {"succeeded": 3}


async def test_a_worker_that_ends_by_itself_says_why(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="procrastinate")
    await app.task(name="task")(lambda: None).defer_async()
    await workers.start(max_jobs=1).ended()
    assert "max_jobs_started" in [vars(record)["action"] for record in caplog.records]
