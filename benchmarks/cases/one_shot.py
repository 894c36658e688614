"""A worker that does not wait: how long it takes on an empty queue, and how soon it is at speed."""

from __future__ import annotations

import dataclasses

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.checks import empty_queue, percentile, run_program
from benchmarks.results import CheckFailed, Metrics
from benchmarks.systems import FORMER, OURS, System

_TIMES = 30


@dataclasses.dataclass(frozen=True)
class OneShot:
    """Workers on an empty queue, one after another, and one that finds a few hundred jobs."""

    system: System
    concurrency: int

    def __call__(self, bench: Bench) -> Metrics:
        jobs = bench.scale.one_shot_jobs
        options = {"concurrency": self.concurrency}
        with bench.server.copy(empty_queue(bench, self.system)) as database:
            report = run_program(bench, self.system, "one_shot", database, jobs=jobs, times=_TIMES, options=options)
        if report["ran"] != jobs or report["doubled"]:
            raise CheckFailed(f"of {jobs} jobs {report['ran']} ran, {report['doubled']} of them more than once")
        return {"empty queue ms": percentile(report["empty"], 0.5) * 1000, "jobs/s": jobs / report["ramp_up"]}


def contender(system: System, concurrency: int) -> str:
    """Return the label of a system with that many slots."""
    return f"{system.label}, concurrency {concurrency}"


ONE_SHOT = (
    Case(
        "one_shot",
        "A worker that does not wait, in an open app: on an empty queue, and on 500 jobs",
        tuple(
            Contender(contender(system, concurrency), OneShot(system, concurrency))
            for concurrency in (1, 100)
            for system in (OURS, FORMER)
        ),
        quick=True,
    ),
)
