"""Cases for the rate behind a backlog of a million jobs that no fetch may take."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.checks import empty_queue
from benchmarks.cases.drains import drain
from benchmarks.results import Metrics
from benchmarks.server import Database
from benchmarks.systems import OURS, System

_STEP = 100_000

_INSERT = "INSERT INTO procrastinate_jobs (queue_name, task_name, args, {columns}) SELECT {values} "
_COMMON = "'{queue}', 'backlog', '{{}}', {values} FROM generate_series({first}, {last}) AS number"


@dataclasses.dataclass(frozen=True)
class Backlog:
    """Waiting or finished jobs that no fetch may take.

    Parameters
    ----------
    columns, values:
        Their distinguishing columns, as SQL. ``number`` counts the jobs.
    before, after:
        Statements before and after their insertion.
    queues:
        Queues of the worker that must get past these jobs. ``None`` means all.
    """

    name: str
    columns: str
    values: str
    queue: str = "default"
    before: str = ""
    after: str = ""
    queues: tuple[str, ...] | None = None

    def build(self, database: Database, jobs: int) -> None:
        """Fill a database in steps, with rows like those of the triggers, and without statistics."""
        with database.connect() as connection:
            _without_autovacuum(connection)
            if self.before:
                connection.execute(self.before)
            for first in range(0, jobs, _STEP):
                bounds = {"first": first, "last": min(first + _STEP, jobs) - 1}
                common = _COMMON.format(queue=self.queue, values=self.values, **bounds)
                connection.execute(_INSERT.format(columns=self.columns, values="") + common)
            if self.after:
                connection.execute(self.after)
            _with_autovacuum(connection)


def _without_autovacuum(connection: Any) -> None:
    for table in ("procrastinate_jobs", "procrastinate_events"):
        connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")


def _with_autovacuum(connection: Any) -> None:
    for table in ("procrastinate_jobs", "procrastinate_events"):
        connection.execute(f"ALTER TABLE {table} RESET (autovacuum_enabled)")


# It runs jobs and waits for none: a notification that named it would reach no process.
BUSY_WORKER = """
INSERT INTO procrastinate_workers (last_heartbeat, called_for) VALUES (now() + interval '1 day', NULL)
"""
_BUSY_LOCKS = """
INSERT INTO procrastinate_jobs (queue_name, task_name, lock, status, worker_id)
SELECT 'default', 'backlog', 'lock ' || number, 'doing', (SELECT max(id) FROM procrastinate_workers)
FROM generate_series(0, 999) AS number
"""
_HISTORY = """
INSERT INTO procrastinate_events (job_id, type, at)
SELECT id, event.type::procrastinate_job_event_type, finished_at
FROM procrastinate_jobs CROSS JOIN (VALUES ('deferred'), ('started'), ('succeeded')) AS event (type)
ORDER BY id
"""

SCHEDULED = Backlog("scheduled", "priority, scheduled_at", "10, now() + interval '1 year'")
OTHER_QUEUES = Backlog("other queues", "priority", "10", queue="other", queues=("default",))
# The jobs are parked, like those that a promotion leaves behind a taken lock.
LOCKED = Backlog(
    "busy locks",
    "lock, readiness",
    "'lock ' || number % 1000, 2",
    before=f"{BUSY_WORKER};{_BUSY_LOCKS}",
)
FINISHED = Backlog(
    "finished",
    "status, attempts, finished_at",
    "'succeeded', 1, now() - interval '30 days'",
    after=_HISTORY,
)
BACKLOGS = (SCHEDULED, OTHER_QUEUES, LOCKED, FINISHED)

_READY_JOBS = """
INSERT INTO procrastinate_jobs (queue_name, task_name, args)
SELECT 'default', 'noop', jsonb_build_object('number', number) FROM generate_series(0, {jobs} - 1) AS number
"""

_UNFINISHED = """
SELECT count(*) FROM procrastinate_jobs WHERE id BETWEEN {first} AND {last} AND status IN ('todo', 'doing')
"""
_SUCCEEDED = """
SELECT least(
    (SELECT count(*) FROM procrastinate_jobs WHERE id BETWEEN {first} AND {last} AND status = 'succeeded'),
    (SELECT count(*) FROM procrastinate_events WHERE job_id BETWEEN {first} AND {last} AND type = 'succeeded')
)
"""


def backlog_database(bench: Bench, backlog: Backlog | None, jobs: int | None = None) -> Database:
    """Return a template database with a backlog of that many jobs, or an empty one without a backlog."""
    if backlog is None:
        return empty_queue(bench, OURS)

    def build(database: Database) -> None:
        with bench.drive(OURS, "setup", database, jobs=0) as driver:
            driver.finish()
        backlog.build(database, bench.scale.backlog if jobs is None else jobs)

    return bench.template(f"backlog: {backlog.name}", build)


def add_ready_jobs(database: Database, jobs: int, system: System = OURS) -> System:
    """Defer ready jobs, and return a system whose queries count only these jobs."""
    last = database.number("SELECT coalesce(max(id), 0) FROM procrastinate_jobs")
    database.execute(_READY_JOBS.format(jobs=jobs))
    bounds = {"first": last + 1, "last": last + jobs}
    return dataclasses.replace(system, unfinished=_UNFINISHED.format(**bounds), succeeded=_SUCCEEDED.format(**bounds))


@dataclasses.dataclass(frozen=True)
class DrainBehind:
    """A drain of ready jobs behind a backlog.

    Parameters
    ----------
    queues:
        Queues of the worker if there is no backlog.
    """

    backlog: Backlog | None
    analysed: bool = False
    queues: tuple[str, ...] | None = None

    def __call__(self, bench: Bench) -> Metrics:
        jobs = bench.scale.behind_backlog
        queues = self.backlog.queues if self.backlog else self.queues
        with bench.server.copy(backlog_database(bench, self.backlog)) as database:
            system = add_ready_jobs(database, jobs)
            if self.analysed:
                database.execute("ANALYZE")
            return {"jobs/s": drain(bench, system, database, jobs, options=worker_options(queues))["jobs/s"]}


def worker_options(queues: tuple[str, ...] | None) -> dict[str, Any]:
    """Return the queues of the worker that drains behind a backlog."""
    return {"concurrency": 100, **({"queues": list(queues)} if queues else {})}


def _contenders() -> tuple[Contender, ...]:
    empty = (
        Contender("empty", DrainBehind(None)),
        Contender("empty, one queue", DrainBehind(None, queues=("default",))),
    )
    filled = tuple(
        Contender(backlog.name + (", analysed" if analysed else ""), DrainBehind(backlog, analysed))
        for backlog in BACKLOGS
        for analysed in (False, True)
    )
    return empty + filled


BACKLOG_CASES = (Case("backlog", "Rate behind 1,000,000 jobs that are not to be fetched", _contenders()),)
