"""Jobs of other queues do not pay for the jobs that wait in a paused queue, with a limit or without one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from procrastinate import App, Limit, core
from tests.core.paired import LONG, MORE_TIME, MORE_WORK, compare, pickup_times, processor_times
from tests.core.test_lines_in_front import ALIVE, STATUS
from tests.core.test_query_plans import insert_statement
from tests.database import Databases
from tests.worker.running import connector_for

PAUSED, KEYS = (1_000_000, 1000) if LONG else (20_000, 50)
"""How many jobs wait in the paused queue, each second of them in line of a limit, and how many keys these have."""
IN_LINE = "SELECT count(*) FROM procrastinate_jobs WHERE readiness = 3"


def fill(url: str, *, have_ended: bool) -> None:
    """Pause a queue with urgent jobs. Let all of them wait, or let them have ended."""
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        core.register_worker(connection)
        connection.exec_driver_sql(ALIVE)
        core.define_limits(connection, [core.LimitDefinition(name="l", concurrency=1)])
        core.pause_queue(connection, "paused")
        in_queue = {"queue_name": "'paused'", "task_name": "'behind'", "priority": "10"}
        key = f"'key ' || mod(n, {KEYS})"
        in_line = {"limit_name": "'l'", "limit_key": key, "scheduled_at": "now()", "readiness": "3"}
        ended = {"status": f"{STATUS} 'succeeded'", "finished_at": "now()"} if have_ended else {}
        # The triggers would take minutes for a million jobs. A worker that starts finds the line without them.
        connection.exec_driver_sql("ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")
        for values in ({}, in_line):
            connection.exec_driver_sql(insert_statement(PAUSED // 2, in_queue | values | ended))
        connection.exec_driver_sql("ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER")
        connection.exec_driver_sql("VACUUM ANALYZE")


@pytest.fixture(scope="module")
def urls(databases: Databases) -> Iterator[tuple[str, str]]:
    """Return the databases with ended jobs in the paused queue and with waiting ones."""
    urls = databases.create_migrated(), databases.create_migrated()
    for url, have_ended in zip(urls, (True, False), strict=True):
        fill(url, have_ended=have_ended)
    yield urls
    for url in urls:
        databases.drop(url)


@pytest.fixture
def connections(urls: tuple[str, str]) -> Iterator[list[sa.Connection]]:
    """Return connections to both. Each has a thousand jobs to fetch."""
    engines = [sa.create_engine(url) for url in urls]
    for engine in engines:
        _execute(engine, insert_statement(1000, {"task_name": "'ready'"}))
    connections = [engine.connect() for engine in engines]
    yield connections
    for connection, engine in zip(connections, engines, strict=True):
        connection.close()
        _execute(engine, "DELETE FROM procrastinate_jobs WHERE task_name = 'ready'")
        engine.dispose()


def _execute(engine: sa.Engine, statement: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)
        connection.exec_driver_sql("VACUUM ANALYZE")


def test_a_fetch_takes_no_more_of_the_server_behind_a_paused_queue(connections: list[sa.Connection]) -> None:
    def fetch(connection: sa.Connection) -> None:
        jobs = core.fetch_jobs(connection, worker_id=1, limit=20, paused=["paused"])
        assert [job.queue_name for job in jobs] == ["default"] * 20

    compare("fetch of 20 jobs", processor_times(connections, fetch), MORE_WORK)


async def leave_the_line(url: str) -> float:
    """Run a worker until it has taken the jobs of the paused queue out of their line. Return the seconds."""
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    start = time.perf_counter()
    with engine.connect() as connection:
        async with App(connector=connector_for(url)).open_async() as app:
            worker = app.make_worker(fetch_job_polling_interval=0.1, install_signal_handlers=False)
            running = asyncio.create_task(worker.run())
            while connection.exec_driver_sql(IN_LINE).scalar_one():  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(1.0 if LONG else 0.1)
            worker.stop()
            await running
    return time.perf_counter() - start


@pytest.mark.timeout(1800 if LONG else 120)
@pytest.mark.parametrize("limit", [None, Limit("other", concurrency=5)], ids=["no limit", "a limit"])
async def test_a_job_is_picked_up_as_soon_behind_a_paused_queue(urls: tuple[str, str], limit: Limit | None) -> None:
    """The worker serves all queues. Workers have taken the jobs of the paused queue out of their line before."""
    print(f"jobs in line have left it after {await leave_the_line(urls[1]):.1f} s")
    options = {} if limit is None else {"limit": limit}
    compare("from the defer to the start", await pickup_times(urls, **options), MORE_TIME)
