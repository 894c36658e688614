"""Work that grows with the table, or with the number of jobs (16, 17, 19)."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.app import App
from tests.core.plans import explain
from tests.database import libpq_url
from tests.worker.counting import CountingConnector
from tests.worker.running import Queue, Workers


def test_a_worker_signs_off_without_a_look_at_the_jobs(connection: sa.Connection) -> None:
    """Fault 16. On 3.10.0 to delete a worker reads all jobs for the foreign key (44 ms for 300,000, when cached). Here
    there are no foreign keys: the statement is one row, and no trigger is called.
    """
    keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND confrelid::regclass::text ~ '^procrastinate_'"
    assert connection.exec_driver_sql(keys).scalar_one() == 0
    worker_id = core.register_worker(connection)
    connection.exec_driver_sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id, finished_at) "
        "SELECT 'q', 't', 'succeeded', 1, now() FROM generate_series(1, 5000)"
    )
    before = _pages_read(connection)
    core.unregister_worker(connection, worker_id)
    assert _pages_read(connection) == before


def _pages_read(connection: sa.Connection) -> int:
    connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    statement = "SELECT heap_blks_read + heap_blks_hit FROM pg_statio_user_tables WHERE relname = 'procrastinate_jobs'"
    return int(connection.exec_driver_sql(statement).scalar_one())


@pytest.mark.parametrize("waiting", [100, 5000])
def test_jobs_that_wait_for_a_lock_cost_a_fetch_nothing(engine: sa.Engine, waiting: int) -> None:
    """Fault 17. On 3.10.0 a fetch that finds nothing reads all that waits: 25 pages for 1,000 jobs behind one lock,
    1,482 and 44 ms for 111,000. Here a fetch reads an index of ready jobs, and those that wait are not in it.
    """
    insert = sa.text(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock) "
        "SELECT 'q', 't', 'one' FROM generate_series(1, :waiting)"
    )
    with engine.connect() as connection:
        worker_id = core.register_worker(connection)
        connection.execute(insert, {"waiting": waiting})
        while core.promote_jobs(connection).again:
            pass
        assert len(core.fetch_jobs(connection, worker_id=worker_id, limit=1)) == 1
        connection.commit()
        plans = explain(connection, core.fetch_jobs, worker_id=worker_id, limit=1)
        assert sum(plan.buffers for plan in plans) < 10


async def test_many_jobs_share_fetches_and_records(app: App, workers: Workers, queue: Queue, database_url: str) -> None:
    """Fault 19. On 3.10.0 ten jobs take eleven fetches and ten statements for their outcomes, and a batch of ten twenty
    notifications. Here jobs are fetched by slots, recorded by batches, and notified by statements. What happened to a
    job is still an event each: that is its history, written once a statement.
    """
    task = app.task(name="task")(lambda: None)
    await task.batch_defer_async(*[{}] * 100)
    connector = CountingConnector(libpq_url(database_url))
    await connector.open_async()
    with app.replace_connector(connector):
        await workers.run(concurrency=50)
    await connector.close_async()
    assert queue.statuses() == {"succeeded": 100}
    assert connector.count["finish_jobs"] > 0
    assert connector.count["fetch_jobs"] + connector.count["finish_jobs"] < 100
