"""Limits on worker processes leave their slots full."""

from __future__ import annotations

import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest
import sqlalchemy as sa

from procrastinate import App
from procrastinate.alembic import upgrades
from tests.database import Databases
from tests.faults.release import revision_named, unpack_release_before
from tests.faults.worker_process import ROOT
from tests.worker.limited_processes import workers
from tests.worker.limited_program import SIZED
from tests.worker.limited_program import app as program
from tests.worker.running import Queue, until
from tests.worker.test_limits import LEFT

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
JOBS, ROUNDS, BACKLOG = (1000, 5, 20_000) if LONG else (200, 2, 1000)
"""How many jobs are measured, and how often. How many jobs of one lock or one limit of one wait."""
PROCESSES = 2
HOT_PROGRAM = ("tests/__init__.py", "tests/worker/__init__.py", "tests/worker/hot_program.py")

RATE = """
SELECT count(*) / extract(epoch FROM max(finished_at) - min(started.at))::float
FROM procrastinate_jobs JOIN procrastinate_events AS started ON started.job_id = procrastinate_jobs.id
WHERE started.type = 'started'
"""


async def jobs_a_second(queue: Queue, deferring: App, task: str, seconds: float) -> float:
    """Defer jobs of half this time on average, wait for their ends, and return their rate."""
    queue.sql("DELETE FROM procrastinate_jobs")
    await deferring.tasks[task].batch_defer_async(*[{"key": 0, "seconds": seconds}] * JOBS)
    await until(lambda: not queue.sql(LEFT))
    rate: float = queue.sql(RATE)
    return rate


@pytest.mark.timeout(600 if LONG else 120)
@pytest.mark.parametrize(
    ("seconds", "at_least"),
    [(0.1, 0.6 if LONG else 0.45), (0.01, 0.3 if LONG else 0.2)],
    ids=["jobs of 50 ms", "jobs of 5 ms"],
)
async def test_a_limit_that_equals_the_slots_of_the_workers_leaves_most_of_their_rate(
    queue: Queue, database_url: str, seconds: float, at_least: float
) -> None:
    """A slot is empty from the end of a job until the next one is fetched. That takes some milliseconds.

    On two processors, 0.96 and 0.5 of the rate were left. A busy machine leaves less. The design promises 0.8 with jobs
    of 5 ms, and this test does not prove it: the milliseconds between two jobs of a slot are as long as such a job.
    """
    slots = 5
    async with App(connector=database_url).open_async() as opened:
        await opened.limits.set_async(SIZED.name, concurrency=PROCESSES * slots, allow_undefined=True)
        with program.replace_connector(opened.connector) as deferring, workers(database_url, PROCESSES, slots=slots):
            await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_workers") == PROCESSES)
            await jobs_a_second(queue, deferring, "free", seconds)
            rates = [
                [await jobs_a_second(queue, deferring, task, seconds) for task in ("free", "sized")]
                for _ in range(ROUNDS)
            ]
    free, limited = (statistics.median(one) for one in zip(*rates, strict=True))
    print(f"jobs of {500 * seconds:g} ms: {free:.0f} a second without a limit, {limited:.0f} with it")
    assert limited >= at_least * free


class Speed(NamedTuple):
    """The processor time of PostgreSQL that a job takes, in microseconds, and the number of jobs a second."""

    work: float
    rate: float


def speed_of_jobs(root: pathlib.Path, url: str, how: str, number: int) -> Speed:
    """Run jobs of one lock, of a limit of one, or of neither, with a release."""
    command = [sys.executable, "-m", "tests.worker.hot_program", url, how, str(number), str(max(number, BACKLOG))]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    work, rate = done.stdout.split()
    return Speed(float(work), float(rate))


@pytest.fixture
def best_speed(databases: Databases, tmp_path: pathlib.Path) -> Callable[[str, str, int], Speed]:
    """Return a function that measures the release before limits, or this one, and returns the best of some rounds."""
    brought = revision_named("0014")
    before = unpack_release_before(brought, tmp_path / "before", HOT_PROGRAM)
    releases = {"before": (before, str(brought.down_revision)), "now": (ROOT, "head")}

    def measure(release: str, how: str, number: int) -> Speed:
        root, revision = releases[release]
        measured = []
        for _ in range(ROUNDS):
            url = databases.create_empty()
            migrate(url, revision)
            measured.append(speed_of_jobs(root, url, how, number))
            databases.drop(url)
        return Speed(min(one.work for one in measured), max(one.rate for one in measured))

    return measure


@pytest.mark.timeout(900 if LONG else 120)
def test_a_job_of_a_limit_of_one_costs_less_than_one_of_a_lock_before_there_were_limits(
    best_speed: Callable[[str, str, int], Speed],
) -> None:
    """The processor time is compared. The rates, which the disk and other programs decide, are printed.

    On two quiet processors, a job of a lock takes 505 µs, one of a limit 734 µs, and one of a lock took 998 µs before.
    """
    before, limit, lock = (
        best_speed(*which, JOBS) for which in (("before", "lock"), ("now", "limit"), ("now", "lock"))
    )
    print(f"one at a time: {lock=}, {limit=}, a lock before there were limits: {before}")
    assert limit.work <= (1.6 if LONG else 2.0) * lock.work
    assert limit.work <= before.work
    assert lock.work <= 0.9 * before.work


@pytest.mark.timeout(600 if LONG else 120)
def test_a_worker_takes_no_more_of_the_server_for_jobs_without_a_limit_than_before_there_were_limits(
    best_speed: Callable[[str, str, int], Speed],
) -> None:
    before, now = best_speed("before", "free", 10 * JOBS), best_speed("now", "free", 10 * JOBS)
    print(f"jobs without a limit: {now}, before there were limits: {before}")
    assert now.work <= (1.1 if LONG else 1.3) * before.work


def migrate(url: str, revision: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        upgrades.upgrade(connection, revision)
