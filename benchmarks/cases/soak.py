"""A long run at a steady rate with retention: whether memory, sizes and pick-up stay as they are."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.checks import empty_queue
from benchmarks.driver import Driver
from benchmarks.report import format_number
from benchmarks.results import CheckFailed, Metrics
from benchmarks.server import Database
from benchmarks.systems import OURS

_MEBI = 1024 * 1024
_RATE = 1_000
_LONGEST_KEPT = 120.0
_ENDED_WITHIN = 30.0
_LOOK_INTERVAL = 0.1
_SIZES = """
SELECT sum(pg_table_size(relid)), sum(pg_indexes_size(relid)), sum(n_dead_tup)
FROM pg_stat_user_tables WHERE relname IN ('procrastinate_jobs', 'procrastinate_events')
"""
_KEPT = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'soak'"
_UNFINISHED = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'soak' AND status IN ('todo', 'doing')"


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a minute has shown."""

    memory: float
    tables: float
    indexes: float
    dead_rows: float
    p50: float
    p99: float
    runs: int

    def __str__(self) -> str:
        return (
            f"worker {self.memory:.1f} MiB, tables {self.tables:.1f} MiB, indexes {self.indexes:.1f} MiB, "
            f"{self.dead_rows:,.0f} dead rows, pick-up p50 {format_number(self.p50)} ms, "
            f"p99 {format_number(self.p99)} ms, {self.runs:,} jobs"
        )


@dataclasses.dataclass(frozen=True)
class Soak:
    """Jobs are deferred at a steady rate, and a worker runs them and deletes old ones every ten seconds.

    Parameters
    ----------
    period:
        Seconds between two readings.
    rate:
        Jobs a second.
    """

    period: float = 60.0
    rate: int = _RATE

    def __call__(self, bench: Bench) -> Metrics:
        periods = bench.scale.soak_minutes
        seconds = periods * self.period
        jobs = int(self.rate * seconds)
        asked = {"jobs": jobs, "reports": periods, "kept_seconds": min(_LONGEST_KEPT, seconds / 15)}
        with (
            bench.server.copy(empty_queue(bench, OURS)) as database,
            bench.drive(OURS, "soak", database, **asked) as worker,
            bench.drive(OURS, "soak_defers", database, rate=self.rate, seconds=seconds) as writer,
        ):
            worker.expect("ready")
            writer.expect("ready")
            bench.server.checkpoint()
            writer.go_on()
            readings = self._read(bench, worker, database, periods)
            took = writer.finish()["seconds"]
            _wait_until_ended(database)
            kept = database.number(_KEPT)
            worker.go_on()
            report = worker.finish()
        if report["ran"] != jobs or report["doubled"]:
            raise CheckFailed(f"of {jobs} jobs {report['ran']} ran, {report['doubled']} of them more than once")
        if kept >= jobs:
            raise CheckFailed(f"all {jobs} jobs are still there, and the old ones were to be deleted")
        return {"jobs/s": jobs / took, "jobs": jobs, **compare_thirds(readings)}

    def _read(self, bench: Bench, worker: Driver, database: Database, periods: int) -> list[Reading]:
        import psutil

        process, began = psutil.Process(worker.pid), time.monotonic()
        readings = []
        for number in range(1, periods + 1):
            time.sleep(max(began + number * self.period - time.monotonic(), 0))
            worker.go_on()
            told = worker.expect("report")
            if not told["runs"]:
                raise CheckFailed("no job has run since the last reading")
            with database.connect() as connection:
                tables, indexes, dead = connection.execute(_SIZES).fetchall()[0]
            memory = process.memory_info().rss / _MEBI
            readings.append(
                Reading(
                    memory, int(tables) / _MEBI, int(indexes) / _MEBI, int(dead), told["p50"], told["p99"], told["runs"]
                )
            )
            bench.tell(f"{number} of {periods}: {readings[-1]}")
        return readings


def _wait_until_ended(database: Database) -> None:
    deadline = time.monotonic() + _ENDED_WITHIN
    while unfinished := database.number(_UNFINISHED):
        if time.monotonic() > deadline:
            raise CheckFailed(f"{unfinished} jobs have not ended within {_ENDED_WITHIN:g} seconds")
        time.sleep(_LOOK_INTERVAL)


_FLAT: dict[str, tuple[Callable[[Reading], float], Callable[[Sequence[float]], float]]] = {
    "MiB of memory": (lambda reading: reading.memory, max),
    "MiB of tables": (lambda reading: reading.tables, max),
    "MiB of indexes": (lambda reading: reading.indexes, max),
    "dead rows": (lambda reading: reading.dead_rows, max),
    "p50 ms": (lambda reading: reading.p50, statistics.median),
    "p99 ms": (lambda reading: reading.p99, statistics.median),
}
"""How each figure is read, and what counts of the readings of a third."""


def compare_thirds(readings: list[Reading]) -> dict[str, float]:
    """Return each figure in the last third, and that as a multiple of the figure in the second third."""
    second = readings[len(readings) // 3 : 2 * len(readings) // 3]
    last = readings[2 * len(readings) // 3 :]
    figures = {}
    for name, (read, choose) in _FLAT.items():
        before, after = choose([read(reading) for reading in second]), choose([read(reading) for reading in last])
        figures[name] = after
        from_zero = math.inf if after else 1.0
        figures[f"{name}, growth"] = after / before if before else from_zero
    return figures


SOAK = (
    Case(
        "soak",
        f"{_RATE:,} jobs a second for a long time, with retention: the last third, compared with the second",
        (Contender(OURS.label, Soak()),),
        rounds="one",
        on_request=True,
    ),
)
