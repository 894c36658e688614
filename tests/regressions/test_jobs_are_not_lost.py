"""Retries that cannot be written as they are (1, 14)."""

from __future__ import annotations

import datetime

import pytest

from procrastinate import core
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.retry import RetryStrategy
from tests.worker.running import Queue, Workers


async def test_a_loop_over_stalled_jobs_survives_a_taken_queueing_lock(app: App, queue: Queue) -> None:
    """Fault 1. On 3.10.0 the documented loop over ``get_stalled_jobs`` dies of UniqueViolation at the first job whose
    queueing lock another has taken, and a retry of such a job leaves it ``doing``. Here a job that goes back to wait
    gives its queueing lock up where it is taken, in the same statement.
    """
    task = app.task(name="task", queueing_lock="one")(lambda: None)
    ids = [await task.defer_async(), await task.configure(queueing_lock="other").defer_async()]
    worker_id = core.register_worker(queue.connection)
    assert len(core.fetch_jobs(queue.connection, worker_id=worker_id, limit=2)) == 2
    core.unregister_worker(queue.connection, worker_id)
    await task.defer_async()
    for job in await app.job_manager.get_stalled_jobs():
        await app.job_manager.retry_job(job)
    assert [queue.status(job_id) for job_id in ids] == [Status.TODO, Status.TODO]
    assert [queue.row(job_id)["queueing_lock"] for job_id in ids] == [None, "other"]


@pytest.mark.parametrize("attempts", [0, 12, 10_000])
async def test_no_wait_before_a_retry_overflows(app: App, workers: Workers, queue: Queue, attempts: int) -> None:
    """Fault 14. On 3.10.0 ``exponential_wait=10`` asks for the year 9999 from the twelfth attempt on, without a means
    against it. Here it is as long unless ``max_wait`` is given; no number of attempts makes it an error.
    """

    @app.task(retry=RetryStrategy(exponential_wait=10, max_wait=3600))
    def task() -> None:
        raise ValueError

    job_id = await task.defer_async()
    queue.sql("UPDATE procrastinate_jobs SET attempts = :attempts", attempts=attempts)
    await workers.run()
    assert queue.status(job_id) is Status.TODO
    assert queue.sql("SELECT scheduled_at - now() FROM procrastinate_jobs") <= datetime.timedelta(hours=1)
