"""Keeping and deleting ended jobs."""

from __future__ import annotations

from typing import Any

import pytest

from procrastinate import builtin_tasks
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.job_context import JobContext
from tests.worker.running import Queue, Workers

REMOVE_OLD_JOBS = "builtin:procrastinate.builtin_tasks.remove_old_jobs"


@pytest.mark.parametrize(
    ("delete_jobs", "kept"),
    [("never", {"succeeded": 1, "failed": 1}), ("successful", {"failed": 1}), ("always", {})],
)
async def test_a_worker_deletes_finished_jobs_as_it_is_told(
    app: App, workers: Workers, queue: Queue, delete_jobs: str, kept: dict[str, int]
) -> None:
    await app.task(name="good", lock="one")(lambda: None).defer_async()
    await app.task(name="bad", lock="one")(lambda: 1 / 0).defer_async()
    await workers.run(delete_jobs=delete_jobs)
    assert queue.statuses() == kept
    orphans = "SELECT count(*) FROM procrastinate_events WHERE job_id NOT IN (SELECT id FROM procrastinate_jobs)"
    assert queue.sql(orphans) == 0


async def test_a_job_with_a_retry_left_is_not_deleted(app: App, workers: Workers, queue: Queue) -> None:
    ran: list[int] = []

    @app.task(retry=1)
    def task() -> None:
        ran.append(1)
        if len(ran) == 1:
            raise ValueError

    await task.defer_async()
    await workers.run(delete_jobs="always")
    assert (ran, queue.statuses()) == ([1, 1], {})


@pytest.mark.parametrize(
    ("options", "removed"),
    [
        ({}, {"succeeded"}),
        ({"remove_failed": True}, {"succeeded", "failed"}),
        ({"remove_cancelled": True, "remove_aborted": True}, {"succeeded", "cancelled", "aborted"}),
        ({"queue": "other"}, set()),
    ],
)
async def test_the_builtin_task_removes_old_jobs(
    app: App, workers: Workers, queue: Queue, options: dict[str, bool], removed: set[str]
) -> None:
    ended = ("succeeded", "failed", "cancelled", "aborted")
    for status in ended:
        for age in ("1 hour", "3 hours"):
            queue.sql(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, status, finished_at, lock) VALUES "
                "('q', 'task', cast(:status AS procrastinate_job_status), now() - cast(:age AS interval), :lock)",
                status=status,
                age=age,
                lock=age,
            )
    job_id = await app.configure_task(REMOVE_OLD_JOBS).defer_async(max_hours=2, **options)
    await workers.run(queues=["builtin"])
    assert queue.status(job_id) is Status.SUCCEEDED
    old = queue.sql("SELECT coalesce(array_agg(status::text), '{}') FROM procrastinate_jobs WHERE lock = '3 hours'")
    assert set(old) == set(ended) - removed
    assert queue.sql("SELECT count(*) FROM procrastinate_jobs WHERE lock = '1 hour'") == len(ended)


async def test_the_builtin_task_is_found_by_its_short_name(app: App, workers: Workers, queue: Queue) -> None:
    job_id = queue.sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES "
        "('builtin', 'procrastinate.builtin_tasks.remove_old_jobs', '{\"max_hours\": 1}') RETURNING id"
    )
    await workers.run()
    assert queue.status(job_id) is Status.SUCCEEDED


@pytest.mark.parametrize(("hours_kept", "left"), [(1, 1), (0, 0)])
async def test_a_job_of_the_builtin_task_keeps_what_the_app_keeps(
    app: App, workers: Workers, queue: Queue, hours_kept: int, left: int
) -> None:
    """A role with only the right to insert jobs can defer the task with any arguments."""
    app.min_retention_hours = hours_kept
    queue.sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, finished_at) "
        "VALUES ('q', 'audit', 'succeeded', now() - interval '10 minutes')"
    )
    await app.configure_task(REMOVE_OLD_JOBS, queue="builtin").defer_async(max_hours=0)
    await workers.run()
    assert queue.sql("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'audit'") == left


async def test_a_task_of_the_program_that_removes_old_jobs_decides_itself(
    app: App, workers: Workers, queue: Queue
) -> None:
    @app.task(name="clean", pass_context=True)
    async def clean(context: JobContext) -> None:
        await builtin_tasks.remove_old_jobs(context, max_hours=0)

    queue.sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, finished_at) "
        "VALUES ('q', 'audit', 'succeeded', now() - interval '10 minutes')"
    )
    await clean.defer_async()
    await workers.run()
    assert queue.sql("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'audit'") == 0


@pytest.mark.parametrize("hours", [10**8, 10**12, float("inf")])
async def test_a_time_that_no_clock_reaches_back_to_finds_nothing(
    app: App, workers: Workers, queue: Queue, hours: Any
) -> None:
    """So a program may say "never" by a large number."""
    await app.task(name="good")(lambda: None).defer_async()
    await workers.run()
    await app.job_manager.delete_old_jobs(nb_hours=hours)
    await app.job_manager.delete_old_jobs(nb_hours=hours, queue="other")
    assert list(await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=hours * 3600)) == []
    assert queue.statuses() == {"succeeded": 1}
