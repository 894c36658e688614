"""Cases for the latency of an idle worker: a deferred job, a job that falls due, and a job whose lock is freed."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.checks import empty_queue, percentile, run_program
from benchmarks.results import CheckFailed, Metrics
from benchmarks.server import Database
from benchmarks.systems import FORMER, OURS, System

_GAP = 0.03
_DUE_WITHIN = 4.0


def measure_delays(bench: Bench, system: System, database: Database, jobs: int, **asked: Any) -> list[float]:
    """Return the milliseconds from the moment when each job should start to its actual start."""
    with bench.drive(system, "serve", database, options={"concurrency": 10}) as worker:
        worker.expect("ready")
        trickled = run_program(bench, system, "trickle", database, jobs=jobs, **asked)
        worker.go_on()
        starts = worker.finish()["starts"]
    started = dict(starts)
    if len(starts) != jobs or len(started) != jobs:
        raise CheckFailed(f"{jobs} jobs were deferred, {len(starts)} started")
    return [(started[number] - expected) * 1000 for number, expected in trickled["expected"]]


@dataclasses.dataclass(frozen=True)
class Pickup:
    """Latency from the commit of a job to its start."""

    system: System

    def __call__(self, bench: Bench) -> Metrics:
        with bench.server.copy(empty_queue(bench, self.system)) as database:
            delays = measure_delays(bench, self.system, database, bench.scale.latency_jobs, gap=_GAP)
        middle, slowest = percentile(delays, 0.5), percentile(delays, 0.99)
        return {"p50 ms": middle, "p99 ms": slowest, "p99 / p50": slowest / middle}


@dataclasses.dataclass(frozen=True)
class PickupInside:
    """Latency from before the defer of a job to its start, in a process that does both on one event loop."""

    system: System

    def __call__(self, bench: Bench) -> Metrics:
        jobs = bench.scale.latency_jobs
        asked: dict[str, Any] = {"jobs": jobs, "gap": _GAP, "options": {"concurrency": 10}}
        with bench.server.copy(empty_queue(bench, self.system)) as database:
            report = run_program(bench, self.system, "inside", database, **asked)
        if sorted(number for number, _ in report["starts"]) != list(range(jobs)):
            raise CheckFailed(f"{jobs} jobs were deferred, {len(report['starts'])} started")
        delays = [(started - report["deferred"][number]) * 1000 for number, started in report["starts"]]
        return {"p50 ms": percentile(delays, 0.5), "p99 ms": percentile(delays, 0.99)}


def due_jobs(bench: Bench) -> Metrics:
    """Latency from the scheduled time of a job to its start."""
    with bench.server.copy(empty_queue(bench, OURS)) as database:
        delays = measure_delays(bench, OURS, database, bench.scale.due_jobs, due_in=_DUE_WITHIN)
    return {"p50 ms": percentile(delays, 0.5), "p99 ms": percentile(delays, 0.99), "earliest ms": min(delays)}


@dataclasses.dataclass(frozen=True)
class Gaps:
    """Latency of a worker that polls once a minute, after a lock is freed or a retry falls due."""

    task: str
    report: str
    expected: int

    def __call__(self, bench: Bench) -> Metrics:
        with bench.server.copy(empty_queue(bench, OURS)) as database:
            asked = {"task": self.task, "jobs": bench.scale.due_jobs}
            gaps = run_program(bench, OURS, "gaps", database, **asked)[self.report]
        if len(gaps) != bench.scale.due_jobs - self.expected:
            raise CheckFailed(f"of {bench.scale.due_jobs} jobs, only {len(gaps)} were followed within the time")
        return {"p50 ms": percentile(gaps, 0.5) * 1000, "worst ms": max(gaps) * 1000}


LATENCY = (
    Case(
        "latency",
        "Idle worker, from commit to start",
        (Contender(OURS.label, Pickup(OURS)), Contender(FORMER.label, Pickup(FORMER))),
        quick=True,
    ),
    Case(
        "latency_inside",
        "A process that defers and runs, from the defer to the start",
        (Contender(OURS.label, PickupInside(OURS)), Contender(FORMER.label, PickupInside(FORMER))),
    ),
    Case("due_at", "A job due at T, from T to its start", (Contender(OURS.label, due_jobs),)),
    Case(
        "freed",
        "From the end of a lock's holder to the next job's start, and from a retry's time to its start; polling: 60 s",
        (
            Contender("freed lock", Gaps("locked", "freed", expected=1)),
            Contender("retry", Gaps("flaky", "came_due", expected=0)),
        ),
    ),
)
