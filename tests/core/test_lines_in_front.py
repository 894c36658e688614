"""Jobs without a limit do not pay for the jobs that wait in line before them, however many keys are full."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import App, core
from tests.core.plans import explain
from tests.core.test_query_plans import insert_statement
from tests.database import Databases
from tests.worker.running import NEVER, connector_for, happens

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
IN_LINE, KEYS, SAMPLES = (100_000, (1, 1000, 10_000), 400) if LONG else (5000, (1, 50, 500), 40)
MORE_AT_MOST = 1.1 if LONG else 2.0
"""How much longer something may take. Few samples on a busy machine say less."""

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


def test_a_fetch_takes_no_longer_behind_the_lines(without_and_with: list[sa.Connection]) -> None:
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(SAMPLES):
        for connection, times in zip(without_and_with, took, strict=True):
            start = time.perf_counter()
            assert len(core.fetch_jobs(connection, worker_id=1, limit=20)) == 20
            times.append(time.perf_counter() - start)
            connection.rollback()
    _compare("fetch of 20 jobs", took)


@pytest.mark.timeout(600 if LONG else 120)
async def test_a_job_is_picked_up_as_soon_behind_the_lines(urls: tuple[str, str]) -> None:
    apps = [App(connector=connector_for(url)) for url in urls]
    started: list[asyncio.Event] = []

    async def work() -> None:
        started[-1].set()

    for app in apps:
        app.task(name="work")(work)
    options: dict[str, Any] = {"fetch_job_polling_interval": NEVER, "install_signal_handlers": False}
    took: tuple[list[float], list[float]] = ([], [])
    async with apps[0].open_async(), apps[1].open_async():
        workers = [app.make_worker(**options) for app in apps]
        running = [asyncio.create_task(worker.run()) for worker in workers]
        for number in range(SAMPLES + 5):
            for app, times in zip(apps, took, strict=True):
                started.append(asyncio.Event())
                start = time.perf_counter()
                await app.configure_task("work").defer_async()
                await happens(started[-1])
                if number >= 5:  # the first ones wait for the workers' starts
                    times.append(time.perf_counter() - start)
                await asyncio.sleep(0.02)
        for worker in workers:
            worker.stop()
        await asyncio.gather(*running)
    _compare("from the defer to the start", took)


def _compare(what: str, took: tuple[list[float], list[float]]) -> None:
    without, with_line = (statistics.quantiles(times, n=4)[0] for times in took)  # other programs delay the rest
    print(f"{what}: {without * 1000:.2f} ms without a line, {with_line * 1000:.2f} ms behind it")
    assert with_line <= without * MORE_AT_MOST
