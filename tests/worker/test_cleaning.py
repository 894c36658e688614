"""Jobs that have ended are kept, or deleted."""

from __future__ import annotations

import pytest

from procrastinate.app import App
from procrastinate.core import Status
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


async def test_a_job_that_is_to_be_retried_is_not_deleted(app: App, workers: Workers, queue: Queue) -> None:
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
