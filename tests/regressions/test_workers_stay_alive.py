"""Faults that ended a worker or one of its services on 3.10.0 (2, 5, 8)."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.app import App
from tests.worker.running import Queue, Workers, until


def actions(caplog: pytest.LogCaptureFixture) -> set[str]:
    return {vars(record).get("action", "") for record in caplog.records}


async def test_two_fetches_of_one_lock_at_once_harm_no_worker(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    """Fault 2. On 3.10.0, while one worker's fetch of a lock is uncommitted, another worker fetches a more important
    job of that lock, violates the unique index, and ends with UniqueViolation. Here a promotion gives the lock before
    the fetch, and one worker promotes at a time. A fetch changes no index of locks.
    """
    runs: list[int] = []
    task = app.task(name="task", lock="one")(lambda: runs.append(1))
    first = await task.defer_async()
    await app.job_manager.promote_jobs()
    other = core.register_worker(queue.connection)
    with engine.begin() as uncommitted:
        assert [job.id for job in core.fetch_jobs(uncommitted, worker_id=other, limit=1)] == [first]
        running = await workers.listening(queue)
        second = await task.configure(priority=5).defer_async()
        await queue.succeeded(await app.task(name="free")(lambda: None).defer_async())
        assert not runs
    # A promotion may have the row of the first job for a moment. Then the outcome is not recorded, and a worker that
    # has the job tries again. So does this test.
    finished = core.FinishedJob(id=first, attempts=0, status=core.Status.SUCCEEDED)
    await until(lambda: core.finish_jobs(queue.connection, [finished], worker_id=other) == {first})
    await queue.succeeded(second)
    assert not running.task.done()


async def test_a_heart_that_stumbled_beats_on(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 5. On 3.10.0, without periodic tasks, a failed heartbeat goes unnoticed: the worker runs on and never sends
    another. Here the heartbeat retries, and so does each other service.
    """
    running = await workers.listening(queue, update_heartbeat_interval=0.05)
    await queue.ddl("ALTER TABLE procrastinate_workers RENAME TO away")
    await until(lambda: "update_heartbeat_error" in actions(caplog))
    await queue.ddl("ALTER TABLE away RENAME TO procrastinate_workers")
    since = queue.sql("SELECT now()")
    beats = "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > :since AND id = :id"
    await until(lambda: queue.sql(beats, since=since, id=running.worker.worker_id) == 1)


async def test_a_fetch_that_fails_is_tried_again(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 8. On 3.10.0 any error of a fetch ends the worker with ConnectorException, and one in saving an outcome
    leaves its job ``doing``, and no search for stalled jobs finds it. Here both are retried, with pauses.
    """
    task = app.task(name="task")(lambda: None)
    running = await workers.listening(queue)
    await queue.ddl("ALTER TABLE procrastinate_jobs RENAME COLUMN args TO away")
    queue.sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', 'task')")
    await until(lambda: "fetch_jobs_error" in actions(caplog))
    await queue.ddl("ALTER TABLE procrastinate_jobs RENAME COLUMN away TO args")
    await until(lambda: queue.statuses() == {"succeeded": 1})
    await queue.succeeded(await task.defer_async())
    assert not running.task.done()
