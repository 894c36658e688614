"""Cases for the costs of a worker apart from its jobs: start and stop, memory, connections, and old jobs."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.backlogs import FINISHED, add_ready_jobs, backlog_database
from benchmarks.cases.checks import connections, empty_queue, percentile, serving
from benchmarks.cases.drains import check_effects, check_recorded, wait_until_recorded
from benchmarks.cases.latency import measure_delays
from benchmarks.results import CheckFailed, Metrics
from benchmarks.systems import OURS

_MEBI = 1024 * 1024
_OLD = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'backlog'"
_LONGEST = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)) * 1000, 0)
FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend' AND state <> 'idle'
"""
_FLEET = 4
_FLEET_SECONDS = 3.0


class Sampler:
    """Takes a sample every few milliseconds while a block runs, in a thread."""

    def __init__(self, take: Callable[[], float], interval: float) -> None:
        self._take = take
        self._interval = interval
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.samples: list[tuple[float, float]] = []

    def _run(self) -> None:
        while not self._done.wait(self._interval):
            self.samples.append((time.time(), self._take()))

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._done.set()
        self._thread.join()

    def largest(self) -> float:
        """The largest sample."""
        return max(value for _, value in self.samples)


def start_and_stop(bench: Bench) -> Metrics:
    """Time to start and to stop a worker that runs one job, in a database full of finished jobs."""
    with bench.server.copy(backlog_database(bench, FINISHED)) as database:
        system = add_ready_jobs(database, 1)
        with bench.drive(system, "start_stop", database, jobs=1) as driver:
            driver.expect("ready")
            bench.server.checkpoint()
            driver.go_on()
            driver.expect("ran")
            wait_until_recorded(system, database)
            driver.go_on()
            report = driver.finish()
        check_recorded(system, database, 1)
    return {"start s": report["start"], "stop s": report["stop"]}


def delete_old_jobs(bench: Bench) -> Metrics:
    """Deletion of all old finished jobs, while other jobs are deferred and run."""
    with bench.server.copy(backlog_database(bench, FINISHED)) as database:
        database.execute("ANALYZE")
        with bench.drive(OURS, "retention", database) as driver:
            driver.expect("ready")
            driver.go_on()
            with Sampler(lambda: bench.server.number(_LONGEST, database.name), 0.01) as longest:
                delays = measure_delays(bench, OURS, database, bench.scale.latency_jobs, gap=0.05)
                seconds = driver.finish(timeout=600)["seconds"]
        left = database.number(_OLD)
        if left:
            raise CheckFailed(f"{left} old jobs were left")
    return {
        "jobs/s": bench.scale.backlog / seconds,
        "longest transaction ms": longest.largest(),
        "other jobs' start p99 ms": percentile(delays, 0.99),
    }


def memory(bench: Bench) -> Metrics:
    """Memory of a worker early and late in a long drain."""
    import psutil

    jobs = bench.scale.memory_jobs
    with bench.server.copy(empty_queue(bench, OURS)) as database:
        system = add_ready_jobs(database, jobs)
        with bench.drive(system, "drain", database, jobs=jobs, options={"concurrency": 100}) as driver:
            driver.expect("ready")
            process = psutil.Process(driver.pid)
            with Sampler(lambda: process.memory_info().rss / _MEBI, 0.1) as sizes:
                driver.go_on()
                ran = driver.expect("ran", timeout=900)
            wait_until_recorded(system, database)
            check_effects(driver, jobs)
        check_recorded(system, database, jobs)
    fifth = ran["marks"][len(ran["marks"]) // 5]
    early = max(size for at, size in sizes.samples if at <= fifth)
    late = max(size for _, size in sizes.samples)
    return {"MiB at a fifth": early, "MiB at most": late, "growth": late / early}


@dataclasses.dataclass(frozen=True)
class Connections:
    """Maximum number of connections of a busy worker."""

    task: str

    def __call__(self, bench: Bench) -> Metrics:
        jobs = bench.scale.drained_sync
        with bench.server.copy(bench.waiting_jobs(OURS, jobs, self.task)) as database:
            with bench.drive(OURS, "drain", database, jobs=jobs, options={"concurrency": 100}) as driver:
                driver.expect("ready")
                with Sampler(lambda: connections(bench, database), 0.01) as counts:
                    driver.go_on()
                    driver.expect("ran")
                wait_until_recorded(OURS, database)
                check_effects(driver, jobs)
            check_recorded(OURS, database, jobs)
        return {"connections": counts.largest()}


def connections_of_fleet(bench: Bench) -> Metrics:
    """Maximum number of connections of idle worker processes, for each of them."""
    with (
        bench.server.copy(empty_queue(bench, OURS)) as database,
        serving(bench, OURS, database, _FLEET, options={"concurrency": 100}) as drivers,
    ):
        with Sampler(lambda: connections(bench, database), 0.1) as counts:
            time.sleep(_FLEET_SECONDS)
        for driver in drivers:
            driver.go_on()
            driver.finish()
    return {"connections/process": counts.largest() / _FLEET}


HOUSEKEEPING = (
    Case(
        "start_stop",
        "Worker start (to its first job) and stop, with 1,000,000 finished jobs",
        (Contender(OURS.label, start_and_stop),),
    ),
    Case(
        "retention",
        "Deleting 1,000,000 old finished jobs while others are deferred and run",
        (Contender(OURS.label, delete_old_jobs),),
        rounds="one",
    ),
    Case("memory", "Memory of a worker over 500,000 jobs", (Contender(OURS.label, memory),), rounds="one"),
    Case(
        "connections",
        "Connections of a worker, concurrency 100",
        (
            Contender("async jobs", Connections("noop")),
            Contender("sync jobs", Connections("noop_sync")),
            Contender(f"{_FLEET} idle processes", connections_of_fleet),
        ),
        rounds="one",
        quick=True,
    ),
)
