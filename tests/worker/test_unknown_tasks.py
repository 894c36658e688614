"""A rolling deploy: workers of the old release meet jobs of tasks that only the new one knows."""

from __future__ import annotations

import logging

import pytest

from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.worker.run import unknown_tasks
from tests.worker.running import Queue, Workers, connector_for, until


async def test_a_job_of_an_unknown_task_waits_for_a_worker_that_knows_it(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown_tasks, "_SHORTEST_PAUSE", 0.05)
    job_id = await app.configure_task("new", queue="q", lock="l", queueing_lock="ql", priority=3).defer_async()
    old = await workers.listening(queue)
    await until(lambda: queue.row(job_id)["scheduled_at"] is not None)
    ran: list[int] = []
    newer = await workers.another_app()
    newer.task(name="new")(lambda: ran.append(1))
    old.worker.stop()
    await old.ended()
    workers.start(newer)
    await until(lambda: queue.status(job_id) == Status.SUCCEEDED)
    row = queue.row(job_id)
    assert (ran, row["attempts"], row["queue_name"], row["priority"]) == ([1], 1, "q", 3)


async def test_a_job_that_is_left_counts_no_attempt_and_keeps_its_locks(
    app: App, workers: Workers, queue: Queue
) -> None:
    job_id = await app.configure_task("new", lock="l", queueing_lock="ql").defer_async()
    await workers.run()
    row = queue.row(job_id)
    assert (row["status"], row["attempts"], row["lock"], row["queueing_lock"]) == ("todo", 0, "l", "ql")
    assert queue.sql("SELECT scheduled_at > now() + interval '3 seconds' FROM procrastinate_jobs")


async def test_a_one_shot_worker_runs_the_other_jobs_and_ends(app: App, workers: Workers, queue: Queue) -> None:
    unknown = [await app.configure_task("new").defer_async() for _ in range(20)]
    good = await app.task(name="good")(lambda: None).defer_async()
    await workers.run(concurrency=3)
    assert queue.status(good) == Status.SUCCEEDED
    assert {queue.status(job_id) for job_id in unknown} == {Status.TODO}


async def test_jobs_of_an_unknown_task_are_released_together(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """One statement for each job took 5 ms, and 20,000 such jobs held up all others for two minutes."""
    unknown = app.configure_task("new").batch_defer(*[{}] * 100)
    with caplog.at_level(logging.DEBUG, "procrastinate"):
        await workers.run(concurrency=10)
    releases = [vars(record)["jobs"] for record in caplog.records if vars(record).get("action") == "release_jobs"]
    assert {job_id for jobs in releases for job_id in jobs} == set(unknown)
    assert len(releases) <= 30
    assert {queue.status(job_id) for job_id in unknown} == {Status.TODO}


async def test_an_unknown_task_is_named_once_in_the_log(
    app: App, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        await app.configure_task("new").defer_async()
    with caplog.at_level(logging.INFO):
        await workers.run()
    warnings = [record for record in caplog.records if vars(record).get("action") == "task_unknown"]
    assert [record.levelno for record in warnings] == [logging.WARNING]
    assert "import_paths" in warnings[0].getMessage()
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


async def test_an_unknown_task_fails_its_jobs_once_the_time_is_over(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown_tasks, "_SHORTEST_PAUSE", 0.02)
    job_id = await app.configure_task("new").defer_async()
    await workers.listening(queue, unknown_task_timeout=0.3)
    await until(lambda: queue.status(job_id) == Status.FAILED)
    (error,) = (await app.job_manager.get_result_async(job_id)).errors
    assert "TaskNotFound" in error.exception_class


async def test_a_release_that_is_rolled_back_and_comes_again_loses_no_job(
    app: App, workers: Workers, queue: Queue, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old worker has seen the task for the first time longer ago than its jobs may wait."""
    monkeypatch.setattr(unknown_tasks, "_SHORTEST_PAUSE", 0.05)
    now = [0.0]
    newer = App(connector=connector_for(database_url))
    newer.task(name="new")(lambda: None)
    old = await workers.listening(queue)
    old.worker.unknown_tasks = unknown_tasks.UnknownTasks(3600, lambda: now[0])
    async with newer.open_async():
        for _ in range(2):
            job_id = await app.configure_task("new").defer_async()
            await until(lambda job_id=job_id: queue.row(job_id)["scheduled_at"] is not None)
            canary = workers.start(newer)
            await queue.succeeded(job_id)
            await canary.stopped()
            now[0] += 86400


async def test_a_job_to_be_aborted_ends_when_it_is_left(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown_tasks, "_SHORTEST_PAUSE", 0.05)
    job_id = await app.configure_task("new").defer_async()
    await workers.listening(queue)
    await until(lambda: queue.row(job_id)["scheduled_at"] is not None)
    assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    await until(lambda: queue.status(job_id) in (Status.CANCELLED, Status.ABORTED))
