"""Operations that insert jobs."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert
from sqlalchemy.types import TypeEngine

from procrastinate.core.arrays import array_param, time_param, transpose, unnest, write_time
from procrastinate.core.operation_marks import atomic, plain
from procrastinate.core.rows import NewJob
from procrastinate.core.tables import IN_LINE, UNDECIDED, holds_queueing_lock, jobs

VALUES: dict[str, TypeEngine[Any]] = {
    "queue_name": sa.Text(),
    "task_name": sa.Text(),
    "priority": sa.Integer(),
    "lock": sa.Text(),
    "queueing_lock": sa.Text(),
    "args": sa.Text(),
    "scheduled_at": sa.DateTime(timezone=True),
}
_EXTRAS: dict[str, TypeEngine[Any]] = {
    "meta": sa.Text(),
    "trace_context": sa.Text(),
    "limit_name": sa.Text(),
    "limit_key": sa.Text(),
}
_WEIGHT: dict[str, TypeEngine[Any]] = {"limit_weight": sa.Integer()}
_JSON = ("args", "meta", "trace_context")


class Extent(enum.IntEnum):
    """How many columns the statement for a job names.

    A job that uses neither a limit nor metadata costs nothing for these columns, and needs neither the newest schema
    nor a right to write them. A replacement is the exception: it empties the columns of the job that it overwrites.
    """

    PLAIN = 0
    EXTENDED = 1
    """With the columns of a job that has a limit, metadata or the context of a trace."""
    WEIGHED = 2
    """With the weight of the job, too."""


def extent_of(job: NewJob) -> Extent:
    """Return how many columns the statement for a job must name. For several jobs, the largest extent counts."""
    if job.limit_weight is not None:
        return Extent.WEIGHED
    is_extended = job.limit_name is not None or job.meta is not None or job.trace_context is not None
    return Extent.EXTENDED if is_extended else Extent.PLAIN


_VALUES = {
    Extent.PLAIN: VALUES,
    Extent.EXTENDED: VALUES | _EXTRAS,
    Extent.WEIGHED: VALUES | _EXTRAS | _WEIGHT,
}


def values_of(*, extent: Extent) -> dict[str, TypeEngine[Any]]:
    """Return the values that an insert takes from a :class:`NewJob`, with their types."""
    return _VALUES[extent]


def row_of(value: Callable[[str, TypeEngine[Any]], sa.ColumnElement[Any]], *, extent: Extent) -> dict[str, Any]:
    """Return the columns of a new row by name.

    Every insert names ``readiness``. The tables of Procrastinate 3.x lack it, and the insert fails there instead of
    leaving a job that nothing runs. A job that has a limit and no schedule gets in line. Its schedule keeps it out of
    the indexes of ready jobs.

    Parameters
    ----------
    value:
        Makes the expression for a name and a type of :func:`values_of`.
    """
    row = {name: value(name, type_) for name, type_ in values_of(extent=extent).items()}
    if extent is Extent.PLAIN:
        return row | {"readiness": UNDECIDED}
    is_in_line = sa.and_(row["limit_name"].is_not(None), row["scheduled_at"].is_(None))
    row["scheduled_at"] = sa.case((is_in_line, sa.func.now()), else_=row["scheduled_at"])
    return row | {"readiness": sa.case((is_in_line, IN_LINE), else_=UNDECIDED)}


def bound(name: str, type_: TypeEngine[Any]) -> sa.ColumnElement[Any]:
    """Return a value of :func:`row_of` as a bound parameter."""
    parameter: sa.ColumnElement[Any] = sa.bindparam(name, type_=type_)
    return time_param(name) if isinstance(type_, sa.DateTime) else stored(name, parameter)


def skip_taken(statement: Insert, *, extent: Extent = Extent.PLAIN) -> Insert:
    """Skip jobs whose queueing lock is taken."""
    return statement.on_conflict_do_nothing(index_elements=["queueing_lock"], index_where=holds_queueing_lock())


def replace_waiting(statement: Insert, *, extent: Extent = Extent.PLAIN) -> Insert:
    """Overwrite the waiting job with the new one and reset its readiness.

    The waiting job keeps its number of attempts, which tells a worker's late outcome of an earlier run from the next
    run. Started jobs are not in this index and stay untouched.
    """
    replaced = {name: statement.excluded[name] for name in VALUES if name != "queueing_lock"}
    given = values_of(extent=extent)
    extras = {name: statement.excluded[name] if name in given else sa.null() for name in _EXTRAS | _WEIGHT}
    return statement.on_conflict_do_update(
        index_elements=["queueing_lock"],
        index_where=holds_queueing_lock(),
        set_={**replaced, **extras, "readiness": statement.excluded.readiness},
    )


def as_jsonb(text: sa.ColumnElement[str]) -> sa.ColumnElement[Any]:
    """Cast arguments from text to ``jsonb``."""
    return sa.cast(text, JSONB)


def stored(name: str, value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return a value of :func:`values_of` as its column takes it."""
    return as_jsonb(value) if name in _JSON else value


def _insert_one(*, extent: Extent) -> Any:
    return plain(skip_taken(insert(jobs).values(row_of(bound, extent=extent))).returning(jobs.c.id))


def _new_jobs(*, extent: Extent) -> sa.TableValuedAlias:
    return unnest(values_of(extent=extent), name="new_jobs")


def _rows_of(new_jobs: sa.TableValuedAlias, *, extent: Extent) -> dict[str, Any]:
    return row_of(lambda name, _: stored(name, new_jobs.c[name]), extent=extent)


def _insert_many(*, extent: Extent) -> Any:
    new_jobs = _new_jobs(extent=extent)
    row = _rows_of(new_jobs, extent=extent)
    rows = sa.select(*row.values()).order_by(new_jobs.c.ordinality)
    return skip_taken(insert(jobs).from_select(list(row), rows)).returning(jobs.c.id)


def _insert_alike(*, extent: Extent) -> Any:
    all_args = (
        sa.func.jsonb_array_elements(as_jsonb(sa.bindparam("all_args", type_=sa.Text())))
        .table_valued(sa.column("args", JSONB), with_ordinality="ordinality", name="alike")
        .render_derived(name="alike")
    )
    row = row_of(lambda name, type_: all_args.c.args if name == "args" else bound(name, type_), extent=extent)
    rows = sa.select(*row.values()).order_by(all_args.c.ordinality)
    return plain(insert(jobs).from_select(list(row), rows).returning(jobs.c.id))


_VALUES_OF = {extent: tuple(values_of(extent=extent)) for extent in Extent}
_INSERT_ONE = {extent: _insert_one(extent=extent) for extent in Extent}
_INSERT_MANY = {extent: _insert_many(extent=extent) for extent in Extent}
_INSERT_ALIKE = {extent: _insert_alike(extent=extent) for extent in Extent}
_LARGEST_TEXT = 10_000_000
"""Size limit in characters.

A ``jsonb`` value holds at most 256 MB, and small numbers take several times the size of their text: PostgreSQL refused
40 million characters of them.
"""


def defer_job(connection: sa.Connection, job: NewJob) -> int | None:
    """Insert one job in one statement.

    Returns
    -------
    The id of the job, or ``None`` if another job waits under the same queueing lock. A taken lock is no database
    error: the caller's open transaction stays usable.
    """
    extent = extent_of(job)
    parameters = {name: getattr(job, name) for name in _VALUES_OF[extent]}
    if job.scheduled_at is not None:
        parameters["scheduled_at"] = write_time(job.scheduled_at)
    return connection.execute(_INSERT_ONE[extent], parameters).scalar_one_or_none()


def defer_jobs(connection: sa.Connection, new_jobs: Sequence[NewJob]) -> list[int]:
    """Insert jobs in one statement and skip jobs whose queueing lock is taken.

    Returns
    -------
    The ids in the order of ``new_jobs``. If some jobs were skipped, the list is shorter and does not tell
    which id belongs to which job.
    """
    if not new_jobs:
        return []
    extent = max(map(extent_of, new_jobs), default=Extent.PLAIN)
    ids = connection.execute(_INSERT_MANY[extent], transpose(new_jobs, values_of(extent=extent))).scalars()
    # The sequence gives ids in row order; RETURNING promises no order.
    return sorted(ids)


def defer_jobs_alike(connection: sa.Connection, pattern: NewJob, all_args: Sequence[str]) -> list[int]:
    """Insert jobs that differ only in their arguments, in one statement.

    All arguments travel as one JSON array and everything else once. At a thousand jobs a statement, a job takes 12 µs
    instead of 24; most of the difference is the driver and the parsing of text arrays.

    Parameters
    ----------
    pattern:
        The values that all jobs share. It has no queueing lock.
    all_args:
        The arguments of each job, as the text of a JSON object.

    Returns
    -------
    The ids, in the order of ``all_args``.
    """
    if sum(map(len, all_args)) > _LARGEST_TEXT:
        return defer_jobs(connection, [dataclasses.replace(pattern, args=args) for args in all_args])
    extent = extent_of(pattern)
    parameters = {name: getattr(pattern, name) for name in values_of(extent=extent) if name != "args"}
    if pattern.scheduled_at is not None:
        parameters["scheduled_at"] = write_time(pattern.scheduled_at)
    parameters["all_args"] = f"[{','.join(all_args)}]"
    ids = connection.execute(_INSERT_ALIKE[extent], parameters).scalars()
    return sorted(ids)  # as in defer_jobs()


class _NotAll(Exception):
    """Roll back the savepoint."""


@atomic
def defer_jobs_or_none(connection: sa.Connection, new_jobs: Sequence[NewJob]) -> list[int] | None:
    """Insert all jobs, or none if any queueing lock is taken.

    Returns
    -------
    The ids in the order of ``new_jobs``, or ``None`` if nothing was inserted. The function rolls back a savepoint,
    so the caller's transaction stays usable.
    """
    try:
        with connection.begin_nested():
            ids = defer_jobs(connection, new_jobs)
            if len(ids) < len(new_jobs):
                raise _NotAll
    except _NotAll:
        return None
    return ids


def _insert_by_queueing_lock(on_conflict: Callable[..., Insert], *, extent: Extent) -> sa.CTE:
    """Insert jobs in the order of their queueing locks, with ids in the order of the input.

    All statements take the locks in one order, so two batches cannot deadlock.
    """
    new_jobs = _new_jobs(extent=extent)
    row = _rows_of(new_jobs, extent=extent)
    numbered = (
        sa.select(next_id().label("id"), *(value.label(name) for name, value in row.items()))
        .order_by(new_jobs.c.ordinality)
        .cte("numbered")
    )
    statement = insert(jobs).from_select(
        ["id", *row], sa.select(*numbered.c).order_by(numbered.c.queueing_lock, numbered.c.id)
    )
    return on_conflict(statement, extent=extent).returning(jobs.c.id, jobs.c.queueing_lock).cte("written")


def next_id() -> sa.ColumnElement[int]:
    """Return the next job id from the sequence, before the insert."""
    return sa.func.nextval(sa.func.pg_get_serial_sequence(jobs.name, "id"), type_=sa.BigInteger())


def _insert_or_look(*, extent: Extent) -> sa.CompoundSelect[Any]:
    written = _insert_by_queueing_lock(skip_taken, extent=extent)
    wanted = array_param("wanted", sa.Text())
    waiting = sa.select(jobs.c.id, jobs.c.queueing_lock, sa.false().label("is_new")).where(
        holds_queueing_lock(), jobs.c.queueing_lock == sa.any_(wanted)
    )
    return sa.union_all(sa.select(written.c.id, written.c.queueing_lock, sa.true().label("is_new")), waiting)


def _insert_or_replace(*, extent: Extent) -> sa.Select[Any]:
    replaced = _insert_by_queueing_lock(replace_waiting, extent=extent)
    return sa.select(replaced.c.id, replaced.c.queueing_lock)


_INSERT_OR_LOOK = {extent: _insert_or_look(extent=extent) for extent in Extent}
_INSERT_OR_REPLACE = {extent: _insert_or_replace(extent=extent) for extent in Extent}
_SKIP_TRIES = 5


def defer_job_or_skip(connection: sa.Connection, job: NewJob) -> int | None:
    """Insert a job, or find the job that waits under its queueing lock.

    Returns
    -------
    The id of the new or the waiting job. ``None`` if every try found the queueing lock taken at the insert and free
    at the look-up, because the waiting job had started.
    """
    ids = _insert_or_find(connection, [job])
    return None if ids is None else ids[0]


@atomic
def defer_jobs_or_skip(connection: sa.Connection, new_jobs: Sequence[NewJob]) -> list[int] | None:
    """Insert jobs, or find the jobs that wait under their queueing locks. All of them, or none.

    If several jobs of ``new_jobs`` share a queueing lock, only the first counts.

    Returns
    -------
    The ids in the order of ``new_jobs``. ``None`` as for :func:`defer_job_or_skip`; nothing is inserted then.
    """
    try:
        with connection.begin_nested():
            ids = _insert_or_find(connection, new_jobs)
            if ids is None:
                raise _NotAll
    except _NotAll:
        return None
    return ids


def _insert_or_find(connection: sa.Connection, new_jobs: Sequence[NewJob]) -> list[int] | None:
    """Insert or find jobs, and retry if a waiting job starts, or is not committed yet, between insert and look-up."""
    ids: list[int] = []
    by_lock: dict[str, int] = {}
    missing = unique_by_queueing_lock(new_jobs)
    extent = max(map(extent_of, missing), default=Extent.PLAIN)
    for _ in range(_SKIP_TRIES):
        locks = [job.queueing_lock for job in missing if job.queueing_lock is not None]
        values = transpose(missing, values_of(extent=extent)) | {"wanted": locks}
        rows = connection.execute(_INSERT_OR_LOOK[extent], values).all()
        ids += [row.id for row in rows if row.queueing_lock is None]
        found = sorted((row for row in rows if row.queueing_lock is not None), key=lambda row: row.is_new)
        by_lock |= {row.queueing_lock: row.id for row in found}
        missing = [job for job in missing if job.queueing_lock is not None and job.queueing_lock not in by_lock]
        if not missing:
            return _in_order(new_jobs, ids, by_lock)
    return None


def defer_jobs_or_replace(connection: sa.Connection, new_jobs: Sequence[NewJob]) -> list[int]:
    """Insert jobs in one statement; overwrite the waiting job if the queueing lock is taken.

    The waiting job keeps its id, its history and its number of attempts. A started job stays untouched, and the new job
    is inserted as well. If several jobs of ``new_jobs`` share a queueing lock, only the last counts.

    Returns
    -------
    The ids, in the order of ``new_jobs``.
    """
    if not new_jobs:
        return []
    last = unique_by_queueing_lock(new_jobs, last=True)
    extent = max(map(extent_of, last), default=Extent.PLAIN)
    rows = connection.execute(_INSERT_OR_REPLACE[extent], transpose(last, values_of(extent=extent))).all()
    by_lock = {row.queueing_lock: row.id for row in rows if row.queueing_lock is not None}
    return _in_order(new_jobs, [row.id for row in rows if row.queueing_lock is None], by_lock)


def unique_by_queueing_lock(new_jobs: Iterable[NewJob], *, last: bool = False) -> list[NewJob]:
    """Return one job for each queueing lock, in the position of the first: the first job, or the last if ``last``."""
    chosen: dict[object, NewJob] = {}
    for place, job in enumerate(new_jobs):
        key: object = place if job.queueing_lock is None else job.queueing_lock
        if last or key not in chosen:
            chosen[key] = job
    return list(chosen.values())


def _in_order(new_jobs: Iterable[NewJob], unlocked: Iterable[int], by_lock: Mapping[str, int]) -> list[int]:
    """Return the ids in input order. The sequence gave the jobs without a queueing lock their ids in that order."""
    rest = iter(sorted(unlocked))
    return [next(rest) if job.queueing_lock is None else by_lock[job.queueing_lock] for job in new_jobs]


def find_taken_queueing_lock(connection: sa.Connection, queueing_locks: Sequence[str]) -> str | None:
    """Return the first queueing lock that is taken, for an error message that names it."""
    taken = sa.select(jobs.c.queueing_lock).where(
        holds_queueing_lock(), jobs.c.queueing_lock.in_(sa.bindparam("queueing_locks", expanding=True))
    )
    found = set(connection.execute(taken, {"queueing_locks": list(queueing_locks)}).scalars())
    return next((lock for lock in queueing_locks if lock in found), None)
