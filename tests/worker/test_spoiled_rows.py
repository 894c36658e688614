"""Whatever a role that may insert jobs writes into a row, it concerns that job alone."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import RetryStrategy
from procrastinate.app import App
from procrastinate.core import Status
from tests.worker.running import Queue, Workers, until

LARGEST = 2**31 - 1


def insert(queue: Queue, **values: Any) -> int:
    """Insert a row of a job as any SQL client may, and return its id."""
    row = {"queue_name": "default", "task_name": "good"} | values
    columns, parameters = ", ".join(row), ", ".join(f":{name}" for name in row)
    statement = sa.text(f"INSERT INTO procrastinate_jobs ({columns}) VALUES ({parameters}) RETURNING id")  # noqa: S608
    job_id: int = queue.connection.execute(statement, row).scalar_one()
    return job_id


@pytest.mark.parametrize("column", ["attempts", "rescues"])
async def test_a_count_at_its_end_does_not_stop_the_rescue_of_other_jobs(
    app: App, workers: Workers, queue: Queue, column: str
) -> None:
    app.task(name="good")(lambda: None)
    lost = [insert(queue, status="doing", worker_id=4711) for _ in range(3)]
    spoiled = insert(queue, status="doing", worker_id=4711, **{column: LARGEST})
    await workers.run()
    assert {queue.status(job_id) for job_id in lost} == {Status.SUCCEEDED}
    assert queue.status(spoiled) in (Status.SUCCEEDED, Status.FAILED)
    assert queue.row(spoiled)[column] == LARGEST


async def test_the_last_attempts_of_a_job_are_recorded(app: App, workers: Workers, queue: Queue) -> None:
    tries: list[int] = []

    @app.task(name="tried", retry=RetryStrategy(max_attempts=LARGEST + 10, exponential_wait=3, max_wait=0.01))
    def tried() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError

    @app.task(name="fails")
    def fails() -> None:
        raise ValueError

    job_id = insert(queue, task_name="tried", attempts=LARGEST - 1)
    failed = insert(queue, task_name="fails", attempts=LARGEST)
    workers.start()
    await until(lambda: queue.status(job_id) == Status.SUCCEEDED)
    await until(lambda: queue.status(failed) == Status.FAILED)
    assert (queue.row(job_id)["attempts"], len(tries)) == (LARGEST, 3)
