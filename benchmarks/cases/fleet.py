"""What a fleet of registered workers costs the server with nothing to do, and the rate of a drain next to it."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.backlogs import add_ready_jobs
from benchmarks.cases.checks import connections, empty_queue, serving
from benchmarks.cases.drains import drain
from benchmarks.driver import Driver
from benchmarks.processor_time import family_seconds, seconds_of
from benchmarks.results import CheckFailed, Metrics
from benchmarks.server import Database
from benchmarks.systems import FORMER, OURS, System

FLEET = 200
EACH = 25
"""How many workers share a process."""
_REGISTERED_WITHIN = 60.0
_LOOK_INTERVAL = 0.2
_SETTLED = 40.0
"""Seconds after which all workers listen, their first looks are over, and idle sessions have told their statistics.
Each session has then prepared what it sends: a worker reconciles its jobs every 30 seconds."""
_DRAINS = 3
_REGISTERED = "SELECT count(*) FROM procrastinate_workers"
_NEVER = 3600.0
_WITHOUT_POLLING = {"fetch_job_polling_interval": _NEVER, "abort_job_polling_interval": _NEVER}


@dataclasses.dataclass(frozen=True)
class Fleet:
    """Workers of a queue without jobs. If they poll, a worker of another queue then drains jobs next to them.

    Each worker has a row, a heartbeat, a listener and looks of its own, as in a process of its own.

    Parameters
    ----------
    workers:
        The number of workers.
    each:
        How many workers share a process.
    polls:
        If false, the workers look for jobs and for requests to abort once an hour. What is left is their upkeep:
        heartbeat, rescue, the removal of dead workers and the sweep.
    """

    system: System
    workers: int
    each: int = 1
    polls: bool = True

    def __call__(self, bench: Bench) -> Metrics:
        options: dict[str, Any] = {"queues": ["fleet"], **({} if self.polls else _WITHOUT_POLLING)}
        processes, asked = self.workers // self.each, {"options": options, "workers": self.each}
        with (
            bench.server.copy(empty_queue(bench, self.system)) as database,
            serving(bench, self.system, database, processes, **asked) as drivers,
        ):
            self._wait_until_registered(database)
            time.sleep(_SETTLED)
            figures = _idle_figures(bench, database, drivers)
            if self.polls:
                figures |= {"jobs/s next to them": self._rate(bench, database)}
            self._check_registered(database.number(_REGISTERED))
            for driver in drivers:
                driver.go_on()
            if any(driver.finish()["starts"] for driver in drivers):
                raise CheckFailed("the idle workers ran jobs")
        return figures

    def _wait_until_registered(self, database: Database) -> None:
        deadline = time.monotonic() + _REGISTERED_WITHIN
        while (registered := database.number(_REGISTERED)) < self.workers and time.monotonic() < deadline:
            time.sleep(_LOOK_INTERVAL)
        self._check_registered(registered)

    def _check_registered(self, registered: int) -> None:
        if registered != self.workers:
            raise CheckFailed(f"{registered} of {self.workers} workers are registered")

    def _rate(self, bench: Bench, database: Database) -> float:
        """Return the median rate of several drains."""
        jobs = bench.scale.drained if self.system is OURS else bench.scale.drained_former
        options = {"concurrency": 100, "queues": ["default"]}
        rates = []
        for _ in range(_DRAINS):
            counting = add_ready_jobs(database, jobs, self.system)
            database.execute("ANALYZE")
            rates.append(drain(bench, counting, database, jobs, options=options)["jobs/s"])
        return statistics.median(rates)


def _idle_figures(bench: Bench, database: Database, drivers: list[Driver]) -> dict[str, float]:
    began, commits = time.monotonic(), bench.server.commits(database)
    server, workers = family_seconds(bench.server.pid), seconds_of(driver.pid for driver in drivers)
    time.sleep(bench.scale.fleet_seconds)
    server = family_seconds(bench.server.pid) - server
    workers = seconds_of(driver.pid for driver in drivers) - workers
    seconds, commits = time.monotonic() - began, bench.server.commits(database) - commits
    return {
        "server, % of a core": server * 100 / seconds,
        "workers, % of a core": workers * 100 / seconds,
        "commits/s": commits / seconds,
        "connections": connections(bench, database),
    }


def contender(system: System, workers: int, polls: bool = True) -> str:
    """Return the label of a fleet of one system."""
    count = f"{workers} worker{'s' if workers > 1 else ''}"
    return f"{system.label}, {count}{'' if polls else ', no polling'}"


_FLEETS = ((1, 1, True), (FLEET, EACH, True), (FLEET, EACH, False))

FLEETS = (
    Case(
        f"fleet_{FLEET}",
        f"{FLEET} registered workers with nothing to do, {EACH} a process, and a drain of another queue next to them",
        tuple(
            Contender(contender(system, workers, polls), Fleet(system, workers, each, polls))
            for workers, each, polls in _FLEETS
            for system in (OURS, FORMER)
        ),
        rounds="one",
    ),
)
