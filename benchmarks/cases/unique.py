"""Case for defers of unique jobs."""

from __future__ import annotations

import dataclasses

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.checks import check_rows, empty_queue, run_program
from benchmarks.results import CheckFailed, Metrics
from benchmarks.systems import CHANCY, DJ_QUEUE, OURS, PGQUEUER, System

_WARM_UP = 50


@dataclasses.dataclass(frozen=True)
class UniqueDefers:
    """Defers of one unique job per call, compared with plain defers in alternate blocks."""

    way: str
    stores_each: bool = False
    system: System = OURS

    def __call__(self, bench: Bench) -> Metrics:
        jobs = bench.scale.deferred_singly
        with bench.server.copy(empty_queue(bench, self.system)) as database:
            report = run_program(bench, self.system, "unique", database, way=self.way, jobs=jobs)
            deferred = jobs + _WARM_UP
            expected = 2 * deferred if self.stores_each else deferred + 1
            if self.system is OURS:
                check_rows(database, expected)
            elif (stored := database.number(self.system.unfinished)) != expected:
                raise CheckFailed(f"{self.system.label}: {expected} jobs are to wait, and {stored} do")
        return {"defers/s": jobs / report["unique"], "time / plain defer": report["unique"] / report["plain"]}


_PEERS = ((PGQUEUER, "skipped"), (CHANCY, "replaced"), (DJ_QUEUE, "discarded"))
"""The peers that have unique jobs, and what becomes of a job if its key is held."""

UNIQUE = (
    Case(
        "unique_defers",
        "One unique job a call, sync (PGQueuer: async)",
        (
            Contender("a new key", UniqueDefers("new key", stores_each=True)),
            Contender("a key that is held, skipped", UniqueDefers("skip")),
            Contender("a throttle, skipped", UniqueDefers("throttle")),
            Contender("a debounce, replaced", UniqueDefers("debounce")),
            Contender("a queueing lock that is held, skipped", UniqueDefers("queueing lock")),
            *(
                Contender(f"{peer.label}, a new key", UniqueDefers("new key", stores_each=True, system=peer))
                for peer, _ in _PEERS
            ),
            *(
                Contender(f"{peer.label}, a key that is held, {outcome}", UniqueDefers("held", system=peer))
                for peer, outcome in _PEERS
            ),
        ),
    ),
)
