"""Operations that insert jobs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert
from sqlalchemy.types import TypeEngine

from procrastinate.core.arrays import array_param, transpose, unnest
from procrastinate.core.operation_marks import atomic, plain
from procrastinate.core.rows import NewJob
from procrastinate.core.tables import UNDECIDED, holds_queueing_lock, jobs

VALUES: dict[str, TypeEngine[Any]] = {
    "queue_name": sa.Text(),
    "task_name": sa.Text(),
    "priority": sa.Integer(),
    "lock": sa.Text(),
    "queueing_lock": sa.Text(),
    "args": sa.Text(),
    "scheduled_at": sa.DateTime(timezone=True),
    "meta": sa.Text(),
    "trace_context": sa.Text(),
}
_JSON = ("args", "meta", "trace_context")


def skip_taken(statement: Insert) -> Insert:
    """Skip jobs whose queueing lock is taken."""
    return statement.on_conflict_do_nothing(index_elements=["queueing_lock"], index_where=holds_queueing_lock())


def replace_waiting(statement: Insert) -> Insert:
    """Overwrite the waiting job with the new one and reset its readiness.

    The waiting job keeps its number of attempts, which tells a worker's late outcome of an earlier run from the next
    run. Started jobs are not in this index and stay untouched.
    """
    replaced = {name: statement.excluded[name] for name in VALUES if name != "queueing_lock"}
    return statement.on_conflict_do_update(
        index_elements=["queueing_lock"],
        index_where=holds_queueing_lock(),
        set_={**replaced, "readiness": UNDECIDED},
    )


def as_jsonb(text: sa.ColumnElement[str]) -> sa.ColumnElement[object]:
    """Cast arguments from text to ``jsonb``."""
    return sa.cast(text, JSONB)


def stored(name: str, value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return a value of :data:`VALUES` as its column takes it."""
    return as_jsonb(value) if name in _JSON else value


COLUMNS = [*VALUES, jobs.c.readiness.name]
"""Columns that every insert names, ``readiness`` included.

The tables of Procrastinate 3.x lack ``readiness``. The insert fails there instead of leaving a job that nothing runs.
"""

_INSERT_ONE = plain(
    skip_taken(
        insert(jobs).values(
            {name: stored(name, sa.bindparam(name, type_=type_)) for name, type_ in VALUES.items()}
            | {"readiness": UNDECIDED}
        )
    ).returning(jobs.c.id)
)

_new_jobs = unnest(VALUES, name="new_jobs")

_INSERT_MANY = skip_taken(
    insert(jobs).from_select(
        COLUMNS,
        sa.select(*(stored(name, _new_jobs.c[name]) for name in VALUES), UNDECIDED).order_by(_new_jobs.c.ordinality),
    )
).returning(jobs.c.id)

_all_args = (
    sa.func.jsonb_array_elements(as_jsonb(sa.bindparam("all_args", type_=sa.Text())))
    .table_valued(sa.column("args", JSONB), with_ordinality="ordinality", name="alike")
    .render_derived(name="alike")
)
_INSERT_ALIKE = plain(
    insert(jobs)
    .from_select(
        COLUMNS,
        sa.select(
            *(
                _all_args.c.args if name == "args" else stored(name, sa.bindparam(name, type_=type_))
                for name, type_ in VALUES.items()
            ),
            UNDECIDED,
        ).order_by(_all_args.c.ordinality),
    )
    .returning(jobs.c.id)
)
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
    parameters = {name: getattr(job, name) for name in VALUES}
    return connection.execute(_INSERT_ONE, parameters).scalar_one_or_none()


def defer_jobs(connection: sa.Connection, new_jobs: Sequence[NewJob]) -> list[int]:
    """Insert jobs in one statement and skip jobs whose queueing lock is taken.

    Returns
    -------
    The ids in the order of ``new_jobs``. If some jobs were skipped, the list is shorter and does not tell
    which id belongs to which job.
    """
    if not new_jobs:
        return []
    ids = connection.execute(_INSERT_MANY, transpose(new_jobs, VALUES)).scalars()
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
    parameters = {name: getattr(pattern, name) for name in VALUES if name != "args"}
    ids = connection.execute(_INSERT_ALIKE, parameters | {"all_args": f"[{','.join(all_args)}]"}).scalars()
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


def _insert_by_queueing_lock(on_conflict: Callable[[Insert], Insert]) -> sa.CTE:
    """Insert jobs in the order of their queueing locks, with ids in the order of the input.

    All statements take the locks in one order, so two batches cannot deadlock.
    """
    values = [stored(name, _new_jobs.c[name]) for name in VALUES]
    numbered = (
        sa.select(next_id().label("id"), *(value.label(name) for name, value in zip(VALUES, values, strict=True)))
        .order_by(_new_jobs.c.ordinality)
        .cte("numbered")
    )
    statement = insert(jobs).from_select(
        ["id", *COLUMNS], sa.select(*numbered.c, UNDECIDED).order_by(numbered.c.queueing_lock, numbered.c.id)
    )
    return on_conflict(statement).returning(jobs.c.id, jobs.c.queueing_lock).cte("written")


def next_id() -> sa.ColumnElement[int]:
    """Return the next job id from the sequence, before the insert."""
    return sa.func.nextval(sa.func.pg_get_serial_sequence(jobs.name, "id"), type_=sa.BigInteger())


def _insert_or_look_statement() -> sa.CompoundSelect[Any]:
    written = _insert_by_queueing_lock(skip_taken)
    wanted = array_param("wanted", sa.Text())
    waiting = sa.select(jobs.c.id, jobs.c.queueing_lock, sa.false().label("is_new")).where(
        holds_queueing_lock(), jobs.c.queueing_lock == sa.any_(wanted)
    )
    return sa.union_all(sa.select(written.c.id, written.c.queueing_lock, sa.true().label("is_new")), waiting)


_INSERT_OR_LOOK = _insert_or_look_statement()
_replaced = _insert_by_queueing_lock(replace_waiting)
_INSERT_OR_REPLACE = sa.select(_replaced.c.id, _replaced.c.queueing_lock)
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
    for _ in range(_SKIP_TRIES):
        locks = [job.queueing_lock for job in missing if job.queueing_lock is not None]
        rows = connection.execute(_INSERT_OR_LOOK, transpose(missing, VALUES) | {"wanted": locks}).all()
        ids += [row.id for row in rows if row.queueing_lock is None]
        by_lock |= {row.queueing_lock: row.id for row in sorted(rows, key=lambda row: row.is_new) if row.queueing_lock}
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
    rows = connection.execute(_INSERT_OR_REPLACE, transpose(last, VALUES)).all()
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
