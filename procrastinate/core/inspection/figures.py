"""The loads for metrics and for autoscalers: the numbers of the queue as a whole."""

from __future__ import annotations

import dataclasses
import datetime
from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.inspection.bounds import Count, bounded_count, first_rows, load, to_count
from procrastinate.core.inspection.upkeep_figures import UpkeepFigures, read_upkeep
from procrastinate.core.inspection.workers import is_alive
from procrastinate.core.operation_marks import may_lag
from procrastinate.core.statistics import ALL_TIME, BUCKETS
from procrastinate.core.tables import (
    DOING,
    arrivals,
    dependencies,
    due_at,
    holds_lock,
    holds_slot,
    is_in_line,
    is_parked,
    is_upcoming,
    jobs,
    statistics,
    workers,
)

_COUNTED = 10_000
_ARRIVALS = 100
"""Maximum number of arrivals of workflows that are looked at."""
_MOST_TOTALS = 5_000
"""Maximum number of rows of statistics that one load reads: one for each queue, task and outcome."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkerFigures:
    """How many workers there are, and their slots.

    A live worker that is about to stop is draining, and is also alive. Slots are those of live workers. A slot is lost
    if a task has outlived its timeout in a thread.
    """

    alive: int
    silent: int
    draining: int
    slots: int
    slots_busy: int
    slots_lost: int
    unwritten: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunTotals:
    """All runs of a task in a queue with the same outcome, since statistics are kept. Times are in seconds.

    A histogram has one number for each of :data:`~procrastinate.core.statistics.BOUNDS` and one for longer times.
    """

    queue: str
    task: str
    outcome: str
    count: int
    run_seconds: float
    run_histogram: tuple[int, ...]
    wait_count: int
    wait_seconds: float
    wait_histogram: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """The queue as a whole.

    ``stalled`` counts running jobs without a live worker. ``overdue_seconds`` is the age of the oldest due time that no
    worker has acted on. ``is_more`` is true if some of the totals are left out, those with the fewest runs.
    """

    now: datetime.datetime
    stalled: Count
    overdue_seconds: float
    workers: WorkerFigures
    upkeep: UpkeepFigures
    totals: tuple[RunTotals, ...]
    is_more: bool


_HAS_LIVE_WORKER = sa.exists().where(workers.c.id == jobs.c.worker_id, is_alive())
_STALLED: sa.Select[Any] = sa.select(
    bounded_count(sa.select(sa.literal_column("1")).where(jobs.c.status == DOING, ~_HAS_LIVE_WORKER), _COUNTED)
)


def _is_due() -> sa.ColumnElement[bool]:
    return is_upcoming() & (due_at() <= sa.func.now())


_age: sa.ColumnElement[Any] = sa.cast(sa.extract("epoch", sa.func.now() - jobs.c.scheduled_at), sa.Double())
_OVERDUE = (
    sa.select(_age)
    .where(_is_due(), due_at() > sa.literal_column("'-infinity'::timestamptz"))
    .order_by(due_at())
    .limit(sa.literal_column("1"))
)


def _of_live(amount: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.coalesce(sa.func.sum(amount).filter(is_alive()), 0), sa.BigInteger())


_WORKERS: sa.Select[Any] = sa.select(  # type: ignore[assignment]
    sa.func.count().filter(is_alive()).label("alive"),
    sa.func.count().filter(~is_alive()).label("silent"),
    sa.func.count().filter(is_alive(), workers.c.state == "draining").label("draining"),
    _of_live(workers.c.concurrency).label("slots"),
    _of_live(sa.func.least(workers.c.running, workers.c.concurrency)).label("slots_busy"),
    _of_live(workers.c.lost_threads).label("slots_lost"),
    _of_live(workers.c.unwritten).label("unwritten"),
).select_from(workers)

_TOTALS = (
    sa.select(*(statistics.c[name] for name in statistics.c.keys() if name not in ("seconds", "at")))  # noqa: SIM118
    .where(statistics.c.seconds == sa.literal_column(str(ALL_TIME)))
    .order_by(statistics.c.count.desc(), statistics.c.queue_name, statistics.c.task_name, statistics.c.outcome)
    .limit(sa.literal_column(str(_MOST_TOTALS + 1)))
)


@may_lag
@load
def load_figures(connection: sa.Connection, now: datetime.datetime) -> Figures:
    """Return the numbers of the queue as a whole, and the totals of all runs."""
    rows = connection.execute(_TOTALS).all()
    return Figures(
        now=now,
        stalled=to_count(connection.execute(_STALLED).scalar_one(), _COUNTED),
        overdue_seconds=max(connection.execute(_OVERDUE).scalar() or 0.0, 0.0),
        workers=WorkerFigures(**connection.execute(_WORKERS).one()._mapping),
        upkeep=read_upkeep(connection),
        totals=tuple(_totals(row) for row in rows[:_MOST_TOTALS]),
        is_more=len(rows) > _MOST_TOTALS,
    )


def _buckets(stored: Sequence[int | None]) -> tuple[int, ...]:
    """Return a histogram of the usual length. Plain SQL may have stored another one."""
    numbers = [number or 0 for number in stored[:BUCKETS]]
    return (*numbers, *[0] * (BUCKETS - len(numbers)))


def _totals(row: Any) -> RunTotals:
    return RunTotals(
        queue=row.queue_name,
        task=row.task_name,
        outcome=row.outcome,
        count=row.count,
        run_seconds=row.run_seconds,
        run_histogram=_buckets(row.run_histogram),
        wait_count=row.wait_count,
        wait_seconds=row.wait_seconds,
        wait_histogram=_buckets(row.wait_histogram),
    )


_holder = jobs.alias("holder")
_BY_PRIORITY = (jobs.c.priority.desc(), jobs.c.id)


def _first_jobs(name: str, condition: sa.ColumnElement[bool], *order: sa.ColumnElement[Any]) -> sa.Subquery:
    columns = (jobs.c.queue_name, jobs.c.lock, jobs.c.limit_name, jobs.c.limit_key)
    return first_rows(sa.select(*columns).where(condition).order_by(*order, *_BY_PRIORITY), _COUNTED, name)


def _with_free_lock(waiting: sa.Subquery) -> sa.Select[Any]:
    held = sa.exists().where(holds_lock(_holder), _holder.c.lock == waiting.c.lock)
    return sa.select(waiting.c.queue_name, sa.func.count().label("number")).where(~held).group_by(waiting.c.queue_name)


def _idle_lines() -> sa.Select[Any]:
    """Return the query for the number of lines that no job has a slot of. The first slot needs a worker."""
    waiting = _first_jobs("in_line", is_in_line(), jobs.c.limit_name, jobs.c.limit_key)
    line = sa.select(waiting.c.queue_name, waiting.c.limit_name, waiting.c.limit_key).distinct().subquery("line")
    held = sa.exists().where(
        holds_slot(_holder), _holder.c.limit_name == line.c.limit_name, _holder.c.limit_key == line.c.limit_key
    )
    return sa.select(line.c.queue_name, sa.func.count()).where(~held).group_by(line.c.queue_name)


def _arrivals() -> sa.Select[Any]:
    """Return the query for the queues of jobs that have ended in workflows, and of the steps that wait for them."""
    first = first_rows(sa.select(arrivals).order_by(arrivals.c.id), _ARRIVALS, "first_arrivals")
    ended, groups, waiting = (
        sa.select(sa.func.unnest(first.c[name], type_=sa.BigInteger())) for name in ("ended", "groups", "waiting")
    )
    after = [
        sa.select(dependencies.c.job_id).where(column.in_(of))
        for column, of in ((dependencies.c.parent_id, ended), (dependencies.c.parent_workflow_id, groups))
    ]
    named = sa.union(ended, waiting, *after).subquery("named")
    touched = sa.select(jobs.c.queue_name).where(jobs.c.id.in_(sa.select(named.c[0]))).distinct().subquery("touched")
    return sa.select(touched.c.queue_name, sa.literal_column("1", sa.BigInteger()))


_STARTABLE_BY_QUEUE = sa.union_all(
    _with_free_lock(_first_jobs("due", _is_due(), due_at())),
    _with_free_lock(_first_jobs("parked", is_parked() & jobs.c.lock.is_not(None), jobs.c.lock)),
    _with_free_lock(_first_jobs("parked_by_pause", is_parked() & jobs.c.lock.is_(None), jobs.c.lock)),
    _idle_lines(),
    _arrivals(),
)


@may_lag
@load
def count_startable(connection: sa.Connection, now: datetime.datetime) -> dict[str, int]:
    """Return the number of jobs of each queue that start only if a worker makes them ready.

    These are due jobs, and jobs that a lock or a pause held back, if no job has their lock. The line of a limit
    counts as one job if no job has a slot of the limit. Steps that wait for ended jobs count as one job, too. Without a
    worker, all of these stay in their state. At most 10,000 jobs of each kind are looked at.
    """
    numbers: Counter[str] = Counter()
    for queue, number in connection.execute(_STARTABLE_BY_QUEUE):
        numbers[queue] += number
    return dict(numbers)
