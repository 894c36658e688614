"""Statistics of runs, by the minute: how many, how they ended, how long they ran and how long they had waited.

Workers add up in memory and write with their heartbeat, so no job costs a statement. A worker that is killed loses
the numbers of a few seconds. The rows of the jobs are the truth, and these are statistics.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by, insert

from procrastinate.core.arrays import array_param, each_of, unnest, write_array, write_columns
from procrastinate.core.defaults import LARGEST_ID
from procrastinate.core.enums import BECAME_READY, EventType
from procrastinate.core.lock_timeouts import wait_briefly
from procrastinate.core.operation_marks import atomic, plain
from procrastinate.core.tables import event_literal, events, statistics, task_lists, workers

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Upper bounds of the histograms, in seconds. A last bucket holds what is longer."""
BUCKETS = len(BOUNDS) + 1

MINUTE = 60
ALL_TIME = 0
"""Length of the interval of a row that is never rolled up. Its counts only grow."""
_ROLL_UPS = ((MINUTE, 600, 8 * 3600), (600, 3600, 72 * 3600))
"""From intervals of this length to longer ones, after that many seconds."""
_LONGEST_KEPT = (3600, 90 * 86400)
_ROLLED_UP_AT_ONCE = 6 * 3600
"""Seconds of statistics that one statement rolls up."""
_TASK_LIST_KEPT = 30 * 86400


class Durations:
    """A number of durations, added up."""

    __slots__ = ("buckets", "count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.buckets = [0] * BUCKETS

    def add(self, seconds: float) -> None:
        """Add a duration, in seconds."""
        self.count += 1
        self.seconds += seconds
        self.buckets[bisect.bisect_left(BOUNDS, seconds)] += 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Runs of the jobs of a task in a queue, with the same outcome.

    ``samples`` are the ids of some of the jobs. Their waiting times are read from the history.
    """

    queue_name: str
    task_name: str
    outcome: str
    run: Durations
    samples: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    queue_name: str
    task_name: str
    outcome: str
    count: int
    run_seconds: float
    run_histogram: str
    wait_count: int
    wait_seconds: float
    wait_histogram: str


_COLUMNS: dict[str, Any] = {
    "queue_name": sa.Text(),
    "task_name": sa.Text(),
    "outcome": sa.Text(),
    "count": sa.BigInteger(),
    "run_seconds": sa.Double(),
    "run_histogram": sa.Text(),
    "wait_count": sa.BigInteger(),
    "wait_seconds": sa.Double(),
    "wait_histogram": sa.Text(),
}
_KEY = ("seconds", "at", "queue_name", "task_name", "outcome")
_HISTOGRAMS = ("run_histogram", "wait_histogram")
_SUMS = ("count", "run_seconds", "wait_count", "wait_seconds")
_LARGEST_SECONDS: sa.ColumnElement[float] = sa.literal_column("1e290", sa.Double())
"""A sum of many durations of this length is still a number of the type."""
_BIGINTS: ARRAY[int] = ARRAY(sa.BigInteger)


def _added(rows: sa.Select[Any]) -> Any:
    """Return the statement that adds rows to the statistics. The order of the key prevents deadlocks."""
    ordered = rows.order_by(*(rows.selected_columns[name] for name in _KEY))
    statement = insert(statistics).from_select([column.name for column in ordered.selected_columns], ordered)
    new = statement.excluded
    sums: dict[str, Any] = {name: _plus(statistics.c[name], new[name]) for name in _SUMS}
    for name in _HISTOGRAMS:
        sums[name] = _bucket_sums(name)
    return statement.on_conflict_do_update(index_elements=_KEY, set_=sums)


def _plus(one: sa.ColumnElement[Any], other: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return a sum that stays within its type. A row of plain SQL can be at the end of it already."""
    return _bounded(one) + _bounded(other)


def _bucket_sums(name: str) -> sa.ColumnElement[Any]:
    """Return the sum of the histogram of a row and of the row to add. A bucket that a row of plain SQL lacks is 0.

    Seventeen sums apiece would make a statement of 13,000 characters, which takes 25 ms to compile. The columns are
    literal, because SQLAlchemy does not correlate a query of ``ON CONFLICT`` with the rows of the statement.
    """
    one, other = (sa.literal_column(f"{table}.{name}", _BIGINTS) for table in (statistics.name, "excluded"))
    series = sa.func.generate_series(sa.literal_column("1"), sa.literal_column(str(BUCKETS)))
    number = series.table_valued(sa.column("number", sa.Integer()), name="buckets").render_derived().c.number
    sums = aggregate_order_by(_plus(one[number], other[number]), number)
    return sa.select(sa.func.array_agg(sums, type_=_BIGINTS)).scalar_subquery()


def _bounded(number: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return a number so far from the ends of its type that two of them can be added."""
    is_float = isinstance(number.type, sa.Double)
    largest = _LARGEST_SECONDS if is_float else sa.literal_column(str(LARGEST_ID // 2))
    return sa.func.greatest(sa.func.least(sa.func.coalesce(number, 0), largest), 0, type_=number.type)


def add_up(numbers: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """Return the sum of a column of whole numbers. No row of plain SQL can take it beyond its type."""
    total = sa.func.coalesce(sa.func.sum(numbers), 0)
    return sa.cast(sa.func.least(total, sa.literal_column(str(LARGEST_ID))), sa.BigInteger)


def _array(items: Iterable[sa.ColumnElement[int]]) -> sa.ColumnElement[Any]:
    return sa.cast(sa.dialects.postgresql.array(list(items)), _BIGINTS)


def _add_runs() -> Any:
    runs = unnest(_COLUMNS, name="runs")
    minute: sa.ColumnElement[Any] = sa.func.date_trunc(sa.literal_column("'minute'"), sa.func.now())
    intervals = sa.values(
        sa.column("seconds", sa.Integer), sa.column("at", sa.DateTime(timezone=True)), name="intervals"
    ).data([(sa.literal_column(str(MINUTE)), minute), (sa.literal_column(str(ALL_TIME)), sa.func.to_timestamp(0))])
    columns = [
        sa.cast(runs.c[name], _BIGINTS).label(name) if name in _HISTOGRAMS else runs.c[name] for name in _COLUMNS
    ]
    return _added(sa.select(intervals.c.seconds, intervals.c.at, *columns).select_from(runs.join(intervals, sa.true())))


_ADD_RUNS = plain(_add_runs())


@atomic
def record_runs(connection: sa.Connection, runs: Collection[Runs]) -> None:
    """Add runs to the statistics of this minute, and to those of all time.

    The heartbeat follows these statements, so none of them waits long for a transaction of a user.
    """
    wait_briefly(connection)
    waits = _read_waits(connection, [job_id for one in runs for job_id in one.samples])
    rows = [_row(one, waits) for one in sorted(runs, key=lambda one: (one.queue_name, one.task_name, one.outcome))]
    connection.execute(_ADD_RUNS, write_columns(rows, _COLUMNS))


def _row(runs: Runs, waits: Mapping[int, float]) -> _Row:
    wait = Durations()
    for job_id in runs.samples:
        if job_id in waits:
            wait.add(max(waits[job_id], 0.0))
    return _Row(
        queue_name=runs.queue_name,
        task_name=runs.task_name,
        outcome=runs.outcome,
        count=runs.run.count,
        run_seconds=runs.run.seconds,
        run_histogram=write_array(runs.run.buckets, sa.BigInteger()),
        wait_count=wait.count,
        wait_seconds=wait.seconds,
        wait_histogram=write_array(wait.buckets, sa.BigInteger()),
    )


def _waits_statement() -> sa.Select[Any]:
    """Return the query for the time between "ready" and "started" of the last run of each job.

    An event of type ``scheduled`` has the due time. A later event than the start belongs to the next run.
    """
    job = each_of("ids", sa.BigInteger(), "id", name="job")
    started = (
        sa.select(events.c.at)
        .where(events.c.job_id == job.c.id, events.c.type == event_literal(EventType.STARTED))
        .order_by(events.c.id.desc())
        .limit(1)
        .lateral("started")
    )
    before = events.alias("before")
    ready = (
        sa.select(sa.func.max(before.c.at).label("at"))
        .where(
            before.c.job_id == job.c.id,
            before.c.type.in_([event_literal(type_) for type_ in BECAME_READY]),
            before.c.at <= started.c.at,
            sa.func.isfinite(before.c.at),
        )
        .lateral("ready")
    )
    wait: sa.ColumnElement[float] = sa.cast(
        sa.extract("epoch", started.c.at) - sa.extract("epoch", ready.c.at), sa.Double()
    )
    return (
        sa.select(job.c.id, wait.label("wait"))
        .select_from(job.join(started, sa.true()).join(ready, sa.true()))
        .where(ready.c.at.is_not(None))
    )


_WAITS = plain(_waits_statement())


def _read_waits(connection: sa.Connection, job_ids: list[int]) -> dict[int, float]:
    """Return how long these jobs had waited, in seconds. A deleted job has no history and is left out."""
    if not job_ids:
        return {}
    return {row.id: row.wait for row in connection.execute(_WAITS, {"ids": write_array(job_ids, sa.BigInteger())})}


# Upkeep


@atomic
def roll_up_statistics(connection: sa.Connection) -> None:
    """Add up old statistics over longer intervals, and delete the oldest ones.

    Minutes are kept for 8 hours, ten minutes for 72 hours, and hours for 90 days.
    """
    wait_briefly(connection)
    for shorter, longer, kept_for in _ROLL_UPS:
        connection.execute(_roll_up(shorter, longer, kept_for))
    seconds, kept_for = _LONGEST_KEPT
    connection.execute(
        sa.delete(statistics).where(statistics.c.seconds == seconds, statistics.c.at < _seconds_ago(kept_for))
    )
    known = sa.exists().where(workers.c.task_list == task_lists.c.hash)
    connection.execute(sa.delete(task_lists).where(task_lists.c.seen_at < _seconds_ago(_TASK_LIST_KEPT), ~known))


def _seconds_ago(seconds: int) -> sa.ColumnElement[Any]:
    return sa.func.now() - sa.literal_column(f"interval '{seconds} seconds'")


def _roll_up(shorter: int, longer: int, kept_for: int) -> Any:
    """Return the statement for one step of a length. It takes whole longer intervals, the oldest first."""
    of_length = statistics.c.seconds == sa.literal_column(str(shorter))
    # A row of plain SQL without a time must not keep the others from being rolled up.
    has_time = statistics.c.at > sa.cast(sa.literal_column("'-infinity'"), sa.DateTime(timezone=True))
    oldest = sa.select(sa.func.min(statistics.c.at)).where(of_length, has_time).scalar_subquery()
    up_to = sa.func.least(
        _start(_seconds_ago(kept_for), longer),
        _start(oldest, longer) + sa.literal_column(f"interval '{_ROLLED_UP_AT_ONCE} seconds'"),
    )
    old = sa.delete(statistics).where(of_length, statistics.c.at < up_to).returning(statistics).cte("old")
    at = _start(old.c.at, longer)
    keys = (old.c.queue_name, old.c.task_name, old.c.outcome)
    sums = [_add_up_any(old.c[name]).label(name) for name in _SUMS]
    histograms = [
        _array(add_up(old.c[name][number]) for number in range(1, BUCKETS + 1)).label(name) for name in _HISTOGRAMS
    ]
    length = sa.literal_column(str(longer), sa.Integer()).label("seconds")
    return _added(sa.select(length, at.label("at"), *keys, *sums, *histograms).group_by(at, *keys))


def _add_up_any(numbers: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.sum(_bounded(numbers)) if isinstance(numbers.type, sa.Double) else add_up(numbers)


def _start(time: sa.ColumnElement[Any], length: int) -> sa.ColumnElement[Any]:
    """Return the start of the interval of this length to which a time belongs."""
    return sa.func.to_timestamp(
        sa.func.floor(sa.extract("epoch", time) / length) * length, type_=sa.DateTime(timezone=True)
    )


_KEEP_TASK_LIST = plain(
    insert(task_lists)
    .values(hash=sa.bindparam("hash", type_=sa.Text()), tasks=array_param("tasks", sa.Text()))
    .on_conflict_do_update(index_elements=["hash"], set_={"seen_at": sa.func.now()})
)


@atomic
def keep_task_list(connection: sa.Connection, *, hash: str, tasks: Collection[str]) -> None:
    """Store the names of the tasks that a worker knows, under the hash that its row has."""
    wait_briefly(connection)
    connection.execute(_KEEP_TASK_LIST, {"hash": hash, "tasks": write_array(sorted(tasks), sa.Text())})
