"""What a job costs while the queue is nearly idle: several idle workers on one queue, and a job now and then."""

from __future__ import annotations

import contextlib
import dataclasses
import time

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.checks import empty_queue, percentile, run_program
from benchmarks.driver import Driver
from benchmarks.processor_time import family_seconds, seconds_of
from benchmarks.results import CheckFailed, Metrics
from benchmarks.server import Database
from benchmarks.systems import FORMER, OURS, System

FLEETS = (1, 4, 12)
LARGE_FLEET = 64
_GAP = 0.02
_SETTLED = 2.0
"""Seconds after which the last outcomes are written and the sessions have told their statistics."""
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
    """

    system: System
    workers: int
    each: int = 1

    def __call__(self, bench: Bench) -> Metrics:
        jobs = bench.scale.low_load_jobs
        with bench.server.copy(empty_queue(bench, self.system)) as database, contextlib.ExitStack() as stack:
            asked = {"options": {"concurrency": 10}, "workers": self.each}
            drivers = [
                stack.enter_context(bench.drive(self.system, "serve", database, **asked))
                for _ in range(self.workers // self.each)
            ]
            for driver in drivers:
                driver.expect("ready")
            idle, began = self._idle_rates(bench, database, drivers)
            run_program(bench, self.system, "trickle", database, jobs=jobs, gap=_GAP)
            time.sleep(_SETTLED)
            ended = _read(bench, database, drivers)
            for driver in drivers:
                driver.go_on()
            starts = [start for driver in drivers for start in driver.finish()["starts"]]
            pick_ups = _pick_ups(database)
        if sorted(number for number, _ in starts) != list(range(jobs)):
            raise CheckFailed(f"{jobs} jobs were deferred, {len(starts)} started")
        seconds = ended.at - began.at
        return {
            "server ms/job": (ended.server - began.server - idle[0] * seconds) * 1000 / jobs,
            "workers' ms/job": (ended.workers - began.workers) * 1000 / jobs,
            "p50 ms": percentile(pick_ups, 0.5),
            "p99 ms": percentile(pick_ups, 0.99),
            "commits/job": (ended.commits - began.commits - idle[1] * seconds) / jobs,
        }

    def _idle_rates(
        self, bench: Bench, database: Database, drivers: list[Driver]
    ) -> tuple[tuple[float, float], _Reading]:
        time.sleep(_SETTLED)
        before = _read(bench, database, drivers)
        # Each worker beats and looks after the others every ten seconds. Of a large fleet, all must be in the reading.
        time.sleep(bench.scale.idle_seconds * (2 if self.workers > max(FLEETS) else 1))
        after = _read(bench, database, drivers)
        return before.rates_to(after), after


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


_WITH_FORMER = tuple(
    Contender(contender(system, workers), LowLoad(system, workers)) for workers in FLEETS for system in (OURS, FORMER)
)

LOW_LOAD = (
    Case(
        "low_load",
        "Idle workers on one queue, and 50 single defers a second; 64 workers are four a process",
        (*_WITH_FORMER, Contender(contender(OURS, LARGE_FLEET), LowLoad(OURS, LARGE_FLEET, each=4))),
    ),
)
