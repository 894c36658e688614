"""Case for jobs without a limit behind a long line of limited ones whose keys are full."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.backlogs import BUSY_WORKER, Backlog, add_ready_jobs, backlog_database
from benchmarks.cases.checks import percentile
from benchmarks.cases.drains import drain
from benchmarks.cases.latency import measure_delays
from benchmarks.results import Metrics
from benchmarks.server import Database
from benchmarks.systems import CHANCY, DJ_QUEUE, OURS, PGQUEUER, System

KEYS = (1, 1_000, 10_000)
_GAP = 0.03
_NO_LINE = "no line"

_DEFINED = """
INSERT INTO procrastinate_limits (name, concurrency) VALUES ('backlog', 1);
INSERT INTO procrastinate_jobs (queue_name, task_name, limit_name, limit_key, scheduled_at, status, worker_id)
SELECT 'default', 'backlog', 'backlog', 'key ' || number, now(), 'doing', (SELECT max(id) FROM procrastinate_workers)
FROM generate_series(0, {keys} - 1) AS number
"""
# The keys are full, so an admission deletes their openings and does nothing else.
_LOOKED_AT = "DELETE FROM procrastinate_openings"


def contender(keys: int) -> str:
    """Return the label of a line behind that many full keys."""
    return f"a line behind {keys:,} full key{'s' if keys > 1 else ''}"


def _line(keys: int) -> Backlog:
    """Return a line of limited jobs behind full keys, in front of the jobs to run."""
    return Backlog(
        contender(keys),
        "priority, limit_name, limit_key, scheduled_at, readiness",
        f"10, 'backlog', 'key ' || number % {keys}, now(), 3",
        before=f"{BUSY_WORKER};{_DEFINED.format(keys=keys)}",
        after=_LOOKED_AT,
    )


@dataclasses.dataclass(frozen=True)
class BehindLine:
    """A drain of ready jobs in front of which others are in line, and the pick-up of jobs by an idle worker."""

    keys: int = 0

    def __call__(self, bench: Bench) -> Metrics:
        jobs, line = bench.scale.behind_backlog, _line(self.keys) if self.keys else None
        template = backlog_database(bench, line, bench.scale.line)
        with bench.server.copy(template) as database:
            system = add_ready_jobs(database, jobs)
            database.execute("ANALYZE")
            measured = drain(bench, system, database, jobs, options={"concurrency": 100})
        with bench.server.copy(template) as database:
            database.execute("ANALYZE")
            delays = measure_delays(bench, OURS, database, bench.scale.latency_jobs, gap=_GAP)
        return {**_figures(measured), "pick-up p50 ms": percentile(delays, 0.5)}


@dataclasses.dataclass(frozen=True)
class PeerBehindLine:
    """A drain of a peer's ready jobs while others wait for a slot of one key, or for their rate.

    Parameters
    ----------
    drained:
        A condition that only the drained jobs meet, as SQL.
    """

    system: System
    has_line: bool
    asked: dict[str, int]
    drained: str

    def __call__(self, bench: Bench) -> Metrics:
        jobs = bench.scale.drained_singly
        line = bench.scale.line if self.has_line else 0

        def build(database: Database) -> None:
            with bench.drive(self.system, "setup", database, jobs=jobs, line=line) as driver:
                driver.finish(timeout=900)
            database.execute("VACUUM ANALYZE")

        with bench.server.copy(bench.template(f"{self.system.label}, {line} in line", build)) as database:
            counting = dataclasses.replace(
                self.system,
                unfinished=f"{self.system.unfinished} AND {self.drained}",
                succeeded=f"{self.system.succeeded} AND {self.drained}",
            )
            return _figures(drain(bench, counting, database, jobs, has_line=self.has_line, **self.asked))


def _figures(measured: Metrics) -> dict[str, float]:
    return {name: measured[name] for name in ("jobs/s", "worker CPU µs/job", "server CPU µs/job")}


def _peers() -> Iterator[Contender]:
    for system, asked, drained in (
        (PGQUEUER, {"batch": 10}, "entrypoint = 'noop'"),
        (CHANCY, {"concurrency": 10}, "queue = 'default'"),
        (DJ_QUEUE, {"concurrency": 10}, "queue_name = 'default'"),
    ):
        for has_line in (False, True):
            label = f"{system.label}, {contender(1) if has_line else _NO_LINE}"
            yield Contender(label, PeerBehindLine(system, has_line, asked, drained))


LINES = (
    Case(
        "limits_line",
        "Jobs without a limit behind 100,000 limited ones in line (Chancy: behind a rate)",
        (
            Contender(_NO_LINE, BehindLine()),
            *(Contender(contender(keys), BehindLine(keys)) for keys in KEYS),
            *_peers(),
        ),
    ),
)
