"""Jobs of free locks do not wait for the many jobs before them that cannot run."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.app import App
from tests.conformance.steps import fetch_ids
from tests.core.test_query_plans import insert_statement
from tests.database import new_job
from tests.worker.running import Queue, Workers, until

HELD_LOCKS = 510
"""More locks than a promotion looks at."""


@pytest.fixture
def held(connection: sa.Connection) -> int:
    """Create long-running jobs that hold the locks, and return the id of their worker."""
    worker_id = core.register_worker(connection)
    for lock in [f"held {number}" for number in range(1, HELD_LOCKS + 1)]:
        core.defer_job(connection, new_job(lock=lock, queue_name="elsewhere"))
    while core.promote_jobs(connection).promoted:
        assert core.fetch_jobs(connection, worker_id=worker_id, limit=HELD_LOCKS)
    connection.execute(sa.text("UPDATE procrastinate_workers SET last_heartbeat = now() + interval '1 day'"))
    return worker_id


@pytest.fixture
def free_task(app: App) -> str:
    """Return the name of the task of jobs that could run."""
    app.task(name="free")(lambda: None)
    return "free"


@pytest.mark.usefixtures("held")
async def test_behind_the_backlog_of_held_locks(
    workers: Workers, queue: Queue, connection: sa.Connection, free_task: str
) -> None:
    """Ten thousand jobs of one, and some of five hundred others, were there before. With each five hundred that were
    parked the worker used to pause for longer.
    """
    backlog = [(10_000, "'held 1'"), (5 * HELD_LOCKS, f"'held ' || (1 + mod(n, {HELD_LOCKS}))")]
    for count, lock in backlog:
        connection.exec_driver_sql(insert_statement(count, {"task_name": "'behind'", "lock": lock}))
    free = [new_job(lock=f"free {number}", task_name=free_task) for number in range(50)]
    ids = core.defer_jobs(connection, free)
    await workers.listening(queue, concurrency=10)
    await queue.succeeded(*ids)


def steps_until_promoted(connection: sa.Connection, job_id: int) -> int:
    """Return the number of promotions until the job is ready."""
    place = sa.text("SELECT readiness FROM procrastinate_jobs WHERE id = :id")
    for step in range(1, 1000):
        core.promote_jobs(connection)
        if connection.execute(place, {"id": job_id}).scalar_one() == core.Readiness.PROMOTED:
            return step
    raise AssertionError("never")


def test_each_promotion_gets_on_by_as_much_as_it_looks_at(connection: sa.Connection, held: int) -> None:
    """A job waits for one promotion per 500 jobs before it, plus one, whatever the number of held locks."""
    connection.exec_driver_sql(insert_statement(10_000, {"task_name": "'behind'", "lock": "'held 1'"}))
    many = {"task_name": "'behind'", "lock": f"'held ' || (1 + mod(n, {HELD_LOCKS}))"}
    connection.exec_driver_sql(insert_statement(5_000, many))
    free = core.defer_job(connection, new_job(lock="free"))
    assert free is not None
    assert steps_until_promoted(connection, free) <= 15_000 / 500 + 1
    assert core.promote_jobs(connection).promoted == 0
    assert fetch_ids(lambda operation, **options: operation(connection, **options), held) == [free]


async def test_behind_jobs_on_whose_locks_nothing_can_be_decided(
    workers: Workers, queue: Queue, connection: sa.Connection, engine: sa.Engine, held: int, free_task: str
) -> None:
    """A user's open transaction locks the rows of all holders. Jobs behind these locks can neither be parked nor run,
    and stay in front of all later jobs.
    """
    many = {"task_name": "'behind'", "lock": f"'held ' || (1 + mod(n, {HELD_LOCKS}))"}
    connection.exec_driver_sql(insert_statement(HELD_LOCKS, many))
    free = core.defer_job(connection, new_job(lock="free", task_name=free_task))
    assert free is not None
    with engine.connect() as user:
        holders = sa.text("SELECT id FROM procrastinate_jobs WHERE worker_id = :worker FOR UPDATE")
        assert len(user.execute(holders, {"worker": held}).all()) == HELD_LOCKS
        await workers.listening(queue)
        await queue.succeeded(free)
    await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_jobs WHERE readiness = 2") == HELD_LOCKS)
