"""Cases for drains, in which a worker runs a given number of waiting jobs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from benchmarks.bench import Bench, Scale
from benchmarks.case import Case, Contender
from benchmarks.driver import Driver
from benchmarks.processor_time import family_seconds
from benchmarks.results import CheckFailed, Metrics
from benchmarks.server import Database
from benchmarks.systems import AWA, FORMER, OBAN, OURS, PGQUEUER, RAW_SQL, System

_RECORDING_TIMEOUT = 60.0
_LOOK_INTERVAL = 0.005
LOCKS = 200


@dataclasses.dataclass(frozen=True)
class Drain:
    """A drain by one system.

    Parameters
    ----------
    jobs:
        Function from the scale to the number of jobs.
    asked:
        Further options for its program.
    """

    system: System
    jobs: Callable[[Scale], int]
    task: str = "noop"
    asked: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self, bench: Bench) -> Metrics:
        """Drain a copy of the template database."""
        jobs = self.jobs(bench.scale)
        template = bench.waiting_jobs(self.system, jobs, self.task)
        with bench.server.copy(template) as database:
            return drain(bench, self.system, database, jobs, **self.asked)


@dataclasses.dataclass(frozen=True)
class DrainOfLocks:
    """A drain of jobs that have one of several locks, in turn."""

    system: System

    def __call__(self, bench: Bench) -> Metrics:
        jobs = bench.scale.locked

        def build(database: Database) -> None:
            with bench.drive(self.system, "setup", database, jobs=jobs, locks=LOCKS) as driver:
                driver.finish()
            database.execute("VACUUM ANALYZE")

        with bench.server.copy(bench.template(f"{self.system.label}, {jobs} on {LOCKS} locks", build)) as database:
            return drain(bench, self.system, database, jobs, options={"concurrency": 20})


def drain(bench: Bench, system: System, database: Database, jobs: int, **asked: Any) -> dict[str, float]:
    """Run the waiting jobs in a database, and check that each ran once and was recorded.

    The time runs from the start of the worker until all jobs are recorded.
    """
    with bench.drive(system, "drain", database, jobs=jobs, **asked) as driver:
        driver.expect("ready")
        bench.server.checkpoint()
        wal, commits = bench.server.wal_position(), bench.server.commits(database)
        server_seconds = family_seconds(bench.server.pid)
        driver.go_on()
        ran = driver.expect("ran")
        recorded_at, looks = wait_until_recorded(system, database)
        server_seconds = family_seconds(bench.server.pid) - server_seconds
        wal = bench.server.wal_position() - wal
        check_effects(driver, jobs)
        commits = bench.server.commits(database) - commits - looks
    check_recorded(system, database, jobs)
    return {
        "jobs/s": jobs / (recorded_at - ran["started_at"]),
        "worker CPU µs/job": ran["processor"] / jobs * 1e6,
        "server CPU µs/job": server_seconds / jobs * 1e6,
        "WAL bytes/job": wal / jobs,
        "commits/job": max(commits, 0) / jobs,
    }


def wait_until_recorded(system: System, database: Database, limit: int = 0) -> tuple[float, int]:
    """Return when all jobs except ``limit`` were recorded as done, and the number of queries for this."""
    deadline = time.time() + _RECORDING_TIMEOUT
    with database.connect_to_count() as connection:
        for looks in range(1, 1_000_000):
            looked_at = time.time()
            unfinished = connection.execute(system.unfinished).fetchall()[0][0]
            if unfinished <= limit:
                return looked_at, looks
            if looked_at > deadline:
                break
            time.sleep(_LOOK_INTERVAL)
    raise CheckFailed(f"{system.label}: {unfinished} jobs ran, and are not recorded as done")


def check_effects(driver: Driver, jobs: int) -> None:
    """Let a driver end, and check that every job had its effect exactly once."""
    driver.go_on()
    report = driver.finish()
    if report["ran"] != jobs or report["doubled"]:
        raise CheckFailed(f"of {jobs} jobs, {report['ran']} ran, {report['doubled']} of them more than once")


def check_recorded(system: System, database: Database, jobs: int) -> None:
    """Check that this number of jobs is recorded as done."""
    recorded = database.number(system.succeeded)
    if recorded != jobs:
        raise CheckFailed(f"{system.label}: {jobs} jobs ran, {recorded} are recorded as done, with their history")


_DEFAULTS: dict[str, Any] = {"options": {}}
_HUNDRED: dict[str, Any] = {"options": {"concurrency": 100}}
_TEN: dict[str, Any] = {"options": {"concurrency": 10}}

DRAINS = (
    Case(
        "drain_async",
        "Drain, async no-op jobs, concurrency 100",
        (
            Contender(RAW_SQL.label, Drain(RAW_SQL, lambda scale: scale.drained)),
            Contender(OURS.label, Drain(OURS, lambda scale: scale.drained, asked=_HUNDRED)),
            Contender("PGQueuer, batch 100", Drain(PGQUEUER, lambda scale: scale.drained, asked={"batch": 100})),
            Contender("PGQueuer, batch 200", Drain(PGQUEUER, lambda scale: scale.drained, asked={"batch": 200})),
            Contender("Awa, 256", Drain(AWA, lambda scale: scale.drained, asked={"concurrency": 256})),
            Contender("Oban, 500", Drain(OBAN, lambda scale: scale.drained, asked={"concurrency": 500})),
            Contender(FORMER.label, Drain(FORMER, lambda scale: scale.drained_former, asked=_HUNDRED)),
        ),
        quick=True,
    ),
    Case(
        "drain_default",
        "Drain, async no-op jobs, default options (concurrency 1)",
        (
            Contender(OURS.label, Drain(OURS, lambda scale: scale.drained_singly, asked=_DEFAULTS)),
            Contender(FORMER.label, Drain(FORMER, lambda scale: scale.drained_singly_former, asked=_DEFAULTS)),
        ),
        quick=True,
    ),
    Case(
        "drain_sync",
        "Drain, sync no-op jobs, concurrency 10",
        (
            Contender(OURS.label, Drain(OURS, lambda scale: scale.drained_sync, "noop_sync", _TEN)),
            Contender(FORMER.label, Drain(FORMER, lambda scale: scale.drained_sync_former, "noop_sync", _TEN)),
        ),
        quick=True,
    ),
    Case(
        "drain_locks",
        f"Drain, 2,000 async no-op jobs on {LOCKS} locks, concurrency 20",
        tuple(Contender(system.label, DrainOfLocks(system)) for system in (OURS, FORMER)),
    ),
)
