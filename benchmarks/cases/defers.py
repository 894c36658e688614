"""Cases for defers, with one job or many jobs per call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from benchmarks.bench import Bench, Scale
from benchmarks.case import Case, Contender
from benchmarks.cases.checks import check_rows, empty_queue, run_program
from benchmarks.results import Metrics
from benchmarks.systems import FORMER, OURS, System


@dataclasses.dataclass(frozen=True)
class SingleDefers:
    """Defers of one job per call, compared with the bare INSERT in alternate blocks."""

    system: System
    program: str
    kind: str

    def __call__(self, bench: Bench) -> Metrics:
        jobs = bench.scale.deferred_singly
        with bench.server.copy(empty_queue(bench, self.system)) as database:
            report = run_program(bench, self.system, self.program, database, kind=self.kind, jobs=jobs)
            check_rows(database, report["rows"])
        return {
            "defers/s": jobs / report["defers"],
            "bare INSERTs/s": jobs / report["bare"],
            "time / bare INSERT": report["defers"] / report["bare"],
        }


@dataclasses.dataclass(frozen=True)
class BatchDefers:
    """Defers of many jobs per call."""

    system: System
    jobs: Callable[[Scale], int]
    batch: Callable[[Scale], int]

    def __call__(self, bench: Bench) -> Metrics:
        jobs = self.jobs(bench.scale)
        with bench.server.copy(empty_queue(bench, self.system)) as database:
            batch = self.batch(bench.scale)
            wal = bench.server.wal_position()
            report = run_program(bench, self.system, "batches", database, jobs=jobs, batch=batch)
            wal = bench.server.wal_position() - wal
            check_rows(database, report["rows"])
        return {"jobs/s": jobs / report["seconds"], "WAL bytes/job": wal / report["rows"]}


def _single(name: str, title: str, program: str, kind: str) -> Case:
    contenders = tuple(Contender(system.label, SingleDefers(system, program, kind)) for system in (OURS, FORMER))
    return Case(name, title, contenders, quick=True)


def _batch(name: str, title: str, jobs: Callable[[Scale], int], batch: Callable[[Scale], int]) -> Case:
    contenders = tuple(Contender(system.label, BatchDefers(system, jobs, batch)) for system in (OURS, FORMER))
    return Case(name, title, contenders, quick=True)


DEFERS = (
    _batch(
        "batch_defer_1000",
        "batch_defer, 1,000 jobs a call",
        lambda scale: scale.deferred_in_batches,
        lambda scale: 1000,
    ),
    _batch(
        "batch_defer_at_once",
        "batch_defer, 100,000 jobs in one call",
        lambda scale: scale.deferred_at_once,
        lambda scale: scale.deferred_at_once,
    ),
    _single("defer_sync", "One defer at a time, standalone, sync", "defers", "sync"),
    _single("defer_async", "One defer at a time, standalone, async", "defers", "async"),
    _single("defer_django", "One defer at a time, Django, outside atomic()", "django_defers", "plain"),
    _single("defer_django_atomic", "One defer at a time, Django, inside atomic()", "django_defers", "atomic"),
)
