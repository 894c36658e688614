"""Case for defers of unique jobs."""

from __future__ import annotations

import dataclasses

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.checks import check_rows, empty_queue, run_program
from benchmarks.results import Metrics
from benchmarks.systems import OURS

_WARM_UP = 50


@dataclasses.dataclass(frozen=True)
class UniqueDefers:
    """Defers of one unique job per call, compared with plain defers in alternate blocks."""

    way: str
    stores_each: bool = False

    def __call__(self, bench: Bench) -> Metrics:
        jobs = bench.scale.deferred_singly
        with bench.server.copy(empty_queue(bench, OURS)) as database:
            report = run_program(bench, OURS, "unique", database, way=self.way, jobs=jobs)
            deferred = jobs + _WARM_UP
            check_rows(database, 2 * deferred if self.stores_each else deferred + 1)
        return {"defers/s": jobs / report["unique"], "time / plain defer": report["unique"] / report["plain"]}


UNIQUE = (
    Case(
        "unique_defers",
        "One unique job a call, sync",
        (
            Contender("a new key", UniqueDefers("new key", stores_each=True)),
            Contender("a key that is held, skipped", UniqueDefers("skip")),
            Contender("a throttle, skipped", UniqueDefers("throttle")),
            Contender("a debounce, replaced", UniqueDefers("debounce")),
            Contender("a queueing lock that is held, skipped", UniqueDefers("queueing lock")),
        ),
    ),
)
