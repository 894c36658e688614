"""Jobs without a limit do not pay for the jobs that wait in line before them, however many keys are full."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from procrastinate import core
from tests.core.paired import LONG, MORE_TIME, MORE_WORK, compare, pickup_times, processor_times
from tests.core.plans import explain
from tests.core.test_query_plans import insert_statement
from tests.database import Databases

IN_LINE, KEYS = (100_000, (1, 1000, 10_000)) if LONG else (5000, (1, 50, 500))

ALIVE = "UPDATE procrastinate_workers SET last_heartbeat = now() + interval '1 day', called_for = NULL"
"""No worker prunes the one that has the slots, and no notification names it."""
STATUS = "procrastinate_job_status"


def fill(engine: sa.Engine, keys: int, *, have_ended: bool) -> None:
    """Create ``keys`` jobs that run, and an urgent line behind them. Or create as many jobs that have ended."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        worker_id = core.register_worker(connection)
        connection.exec_driver_sql(ALIVE)
        core.define_limits(connection, [core.LimitDefinition(name="l", concurrency=1)])
        limited = {"limit_name": "'l'", "limit_key": f"'key ' || mod(n, {keys})", "scheduled_at": "now()"}
        running = {"task_name": "'runs'", "status": f"{STATUS} 'doing'", "worker_id": str(worker_id)}
        in_line = {"task_name": "'behind'", "readiness": "3", "priority": "10"}
        ended = {"status": f"{STATUS} 'succeeded'", "finished_at": "now()"} if have_ended else {}
        for count, values in ((keys, running), (IN_LINE, in_line)):
            connection.exec_driver_sql(insert_statement(count, limited | values | ended))
        connection.exec_driver_sql("VACUUM ANALYZE")


@pytest.fixture(scope="module", params=KEYS, ids=lambda keys: f"{keys} keys")
def urls(request: pytest.FixtureRequest, databases: Databases) -> Iterator[tuple[str, str]]:
    """Return the databases without a line and with one. Each has as many jobs."""
    urls = databases.create_migrated(), databases.create_migrated()
    for url, have_ended in zip(urls, (True, False), strict=True):
        engine = sa.create_engine(url)
        fill(engine, request.param, have_ended=have_ended)
        engine.dispose()
    yield urls
    for url in urls:
        databases.drop(url)


@pytest.fixture
def without_and_with(urls: tuple[str, str]) -> Iterator[list[sa.Connection]]:
    """Return connections to both. Each has a thousand jobs to fetch."""
    engines = [sa.create_engine(url) for url in urls]
    connections = [engine.connect() for engine in engines]
    for engine in engines:
        _execute(engine, insert_statement(1000, {"task_name": "'ready'"}))
    yield connections
    for connection, engine in zip(connections, engines, strict=True):
        connection.close()
        _execute(engine, "DELETE FROM procrastinate_jobs WHERE task_name = 'ready'")
        engine.dispose()


def _execute(engine: sa.Engine, statement: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)
        connection.exec_driver_sql("VACUUM ANALYZE")


@pytest.mark.parametrize("queues", [None, ["default"], ["default", "other"]], ids=str)
def test_a_fetch_reads_nothing_of_the_lines(without_and_with: list[sa.Connection], queues: list[str] | None) -> None:
    plans = [
        explain(connection, core.fetch_jobs, worker_id=1, limit=20, queues=queues) for connection in without_and_with
    ]
    for connection in without_and_with:
        assert len(core.fetch_jobs(connection, worker_id=1, limit=20, queues=queues)) == 20
        connection.rollback()
    without, with_line = (sum(plan.buffers for plan in one) for one in plans)
    assert with_line <= without * 1.1
    lines = {"procrastinate_jobs_line_idx", "procrastinate_jobs_slots_idx"}
    assert not set().union(*(plan.indexes for plan in plans[1])) & lines
    assert not any("procrastinate_jobs" in plan.scanned_tables for plan in plans[1])
    assert sum(plan.rows_thrown_away for plan in plans[1]) == 0


def test_a_fetch_takes_no_more_of_the_server_behind_the_lines(without_and_with: list[sa.Connection]) -> None:
    def fetch(connection: sa.Connection) -> None:
        assert len(core.fetch_jobs(connection, worker_id=1, limit=20)) == 20

    compare("fetch of 20 jobs", processor_times(without_and_with, fetch), MORE_WORK)


@pytest.mark.timeout(600 if LONG else 120)
async def test_a_job_is_picked_up_as_soon_behind_the_lines(urls: tuple[str, str]) -> None:
    compare("from the defer to the start", await pickup_times(urls), MORE_TIME)
