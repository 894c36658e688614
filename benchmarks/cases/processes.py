"""Several worker processes on one queue."""

from __future__ import annotations

import contextlib
import dataclasses
import time

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.drains import check_recorded, wait_until_recorded
from benchmarks.results import CheckFailed, Metrics
from benchmarks.systems import OURS


@dataclasses.dataclass(frozen=True)
class Share:
    """A number of workers that run the waiting jobs together."""

    workers: int

    def __call__(self, bench: Bench) -> Metrics:
        jobs = bench.scale.processes_jobs
        with bench.server.copy(bench.waiting_jobs(OURS, jobs)) as database:
            with contextlib.ExitStack() as stack:
                drivers = [stack.enter_context(bench.drive(OURS, "share", database)) for _ in range(self.workers)]
                for driver in drivers:
                    driver.expect("ready")
                bench.server.checkpoint()
                began = time.time()
                for driver in drivers:
                    driver.go_on()
                ended, _ = wait_until_recorded(OURS, database)
                for driver in drivers:
                    driver.go_on()
                numbers = [number for driver in drivers for number in driver.finish()["numbers"]]
            check_recorded(OURS, database, jobs)
            deadlocks = bench.server.number("SELECT deadlocks FROM pg_stat_database WHERE datname = %s", database.name)
        if sorted(numbers) != list(range(jobs)) or deadlocks:
            lost, runs = jobs - len(set(numbers)), len(numbers)
            raise CheckFailed(f"{runs} runs of {jobs} jobs, {lost} were lost, {deadlocks} deadlocks")
        return {"jobs/s": jobs / (ended - began)}


PROCESSES = (
    Case(
        "processes",
        "Worker processes on one queue, concurrency 100 each",
        (Contender("1 process", Share(1)), Contender("4 processes", Share(4))),
    ),
)
