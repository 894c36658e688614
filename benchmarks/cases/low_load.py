"""What a job costs while the queue is nearly idle: several idle workers on one queue, and a job now and then."""

from __future__ import annotations

import dataclasses
import time

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.checks import empty_queue, percentile, run_program, serving
from benchmarks.cases.drains import wait_until_recorded
from benchmarks.driver import Driver
from benchmarks.processor_time import family_seconds, seconds_of
from benchmarks.results import CheckFailed, Metrics
from benchmarks.server import Database
from benchmarks.statements import counted_statements
from benchmarks.systems import FORMER, OURS, System

FLEETS = (1, 4, 12)
LARGE_FLEET = 64
_GAP = 0.02
_SETTLED = 2.0
"""Seconds after which the last outcomes are written and the sessions have told their statistics."""
_SETTLED_FLEET = 12.0
"""The same after the start of a large fleet, whose idle sessions tell their statistics after ten seconds."""
_INTERVAL = 10.0
"""Seconds between two heartbeats of a worker, and between its looks after the others."""
_PICK_UPS = """
SELECT extract(epoch FROM started.at - deferred.at) * 1000
FROM procrastinate_events AS started
JOIN procrastinate_events AS deferred USING (job_id)
WHERE started.type = 'started' AND deferred.type = 'deferred'
"""


@dataclasses.dataclass(frozen=True)
class _Reading:
    """What the server and the workers have used so far, at a time in seconds."""

    at: float
    server: float
    workers: float
    commits: int

    def rates_to(self, later: _Reading) -> tuple[float, float]:
        """Return the server's processor seconds and the commits, both for each second."""
        seconds = later.at - self.at
        return (later.server - self.server) / seconds, (later.commits - self.commits) / seconds


@dataclasses.dataclass(frozen=True)
class LowLoad:
    """Workers wait, and 50 jobs a second are deferred one by one.

    What the same workers cost the server without jobs is subtracted.

    Parameters
    ----------
    workers:
        The number of workers.
    each:
        How many workers share a process.
    counts_statements:
        If true, a second trickle follows, whose statements are counted. The log of the server costs time.
    """

    system: System
    workers: int
    each: int = 1
    counts_statements: bool = False

    def __call__(self, bench: Bench) -> Metrics:
        jobs = self._jobs(bench)
        processes, asked = self.workers // self.each, {"options": {"concurrency": 10}, "workers": self.each}
        with (
            bench.server.copy(empty_queue(bench, self.system)) as database,
            serving(bench, self.system, database, processes, **asked) as drivers,
        ):
            idle, began = self._idle_rates(bench, database, drivers)
            run_program(bench, self.system, "trickle", database, jobs=jobs, gap=_GAP)
            _, looks = wait_until_recorded(self.system, database)
            self._settle(began.at)
            ended = _read(bench, database, drivers)
            pick_ups = _pick_ups(database)
            statements = self._count_statements(bench, database) if self.counts_statements else {}
            for driver in drivers:
                driver.go_on()
            starts = [start for driver in drivers for start in driver.finish()["starts"]]
        trickles = 2 if self.counts_statements else 1
        if sorted(number for number, _ in starts) != sorted(list(range(jobs)) * trickles):
            raise CheckFailed(f"{jobs * trickles} jobs were deferred, {len(starts)} started")
        seconds = ended.at - began.at
        server = ended.server - began.server - idle[0] * seconds
        if self.is_large and server <= 0:
            raise CheckFailed("the idle workers cost less while jobs ran, so what a job costs is not known")
        return {
            "server ms/job": server * 1000 / jobs,
            "workers' ms/job": (ended.workers - began.workers) * 1000 / jobs,
            "p50 ms": percentile(pick_ups, 0.5),
            "p99 ms": percentile(pick_ups, 0.99),
            "commits/job": (ended.commits - began.commits - looks - idle[1] * seconds) / jobs,
            **statements,
        }

    def _count_statements(self, bench: Bench, database: Database) -> dict[str, float]:
        jobs = self._jobs(bench)
        with counted_statements(bench.server, database) as statements:
            began = time.monotonic()
            time.sleep(self._idle_seconds(bench))
            idle = statements.so_far() / (time.monotonic() - began)
            before, began = statements.so_far(), time.monotonic()
            run_program(bench, self.system, "trickle", database, jobs=jobs, gap=_GAP)
            _, looks = wait_until_recorded(self.system, database)
            self._settle(began)
            seconds = time.monotonic() - began
            return {"statements/job": (statements.so_far() - before - looks - idle * seconds) / jobs}

    def _idle_rates(
        self, bench: Bench, database: Database, drivers: list[Driver]
    ) -> tuple[tuple[float, float], _Reading]:
        time.sleep(_SETTLED_FLEET if self.is_large else _SETTLED)
        before = _read(bench, database, drivers)
        time.sleep(self._idle_seconds(bench))
        after = _read(bench, database, drivers)
        return before.rates_to(after), after

    @property
    def is_large(self) -> bool:
        """True if the idle workers cost more than the jobs. Their share must then be measured well."""
        return self.workers > max(FLEETS)

    def _jobs(self, bench: Bench) -> int:
        return bench.scale.fleet_jobs if self.counts_statements else bench.scale.low_load_jobs

    def _settle(self, began: float) -> None:
        """Wait for the last outcomes. With a large fleet, go on until each worker has sent as many heartbeats."""
        time.sleep(_SETTLED)
        if self.is_large:
            time.sleep((began - time.monotonic()) % _INTERVAL)

    def _idle_seconds(self, bench: Bench) -> float:
        return _INTERVAL if self.is_large else bench.scale.idle_seconds


def _read(bench: Bench, database: Database, drivers: list[Driver]) -> _Reading:
    return _Reading(
        at=time.monotonic(),
        server=family_seconds(bench.server.pid),
        workers=seconds_of(driver.pid for driver in drivers),
        commits=bench.server.commits(database),
    )


def _pick_ups(database: Database) -> list[float]:
    with database.connect() as connection:
        return [float(row[0]) for row in connection.execute(_PICK_UPS)]


def contender(system: System, workers: int) -> str:
    """Return the label of a fleet of one system."""
    return f"{system.label}, {workers} worker{'s' if workers > 1 else ''}"


LOW_LOAD = (
    Case(
        "low_load",
        "Idle workers on one queue, and 50 single defers a second",
        tuple(
            Contender(contender(system, workers), LowLoad(system, workers))
            for workers in FLEETS
            for system in (OURS, FORMER)
        ),
    ),
    Case(
        f"fleet_{LARGE_FLEET}",
        f"One idle worker or {LARGE_FLEET} on one queue, four a process, and 50 single defers a second",
        tuple(
            Contender(contender(system, workers), LowLoad(system, workers, each, counts_statements=True))
            for workers, each in ((1, 1), (LARGE_FLEET, 4))
            for system in (OURS, FORMER)
        ),
    ),
)
