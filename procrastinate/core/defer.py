"""Operations that put jobs into the table."""

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
}


def skip_taken(statement: Insert) -> Insert:
    """Leave out the jobs whose queueing lock is taken."""
    return statement.on_conflict_do_nothing(index_elements=["queueing_lock"], index_where=holds_queueing_lock())


def replace_waiting(statement: Insert) -> Insert:
    """The waiting job becomes the new one, and is looked at anew.

    It keeps its number of attempts: by that a worker's late outcome of an earlier run is told from the next run.
    A job that has started is in this index no more, so it is never touched.
    """
    replaced = {name: statement.excluded[name] for name in VALUES if name != "queueing_lock"}
    return statement.on_conflict_do_update(
        index_elements=["queueing_lock"],
        index_where=holds_queueing_lock(),
        set_={**replaced, "readiness": UNDECIDED},
    )


def as_jsonb(text: sa.ColumnElement[str]) -> sa.ColumnElement[object]:
    """Arguments cross the seam as text."""
    return sa.cast(text, JSONB)


COLUMNS = [*VALUES, jobs.c.readiness.name]
"""What an insert names. It writes out the default of ``readiness``, a column that the tables of Procrastinate 3.x lack.
So it fails there, and leaves no job that nothing runs.
"""

_INSERT_ONE = plain(
    skip_taken(
        insert(jobs).values(
            {
                name: as_jsonb(sa.bindparam(name, type_=type_)) if name == "args" else sa.bindparam(name, type_=type_)
                for name, type_ in VALUES.items()
            }
            | {"readiness": UNDECIDED}
        )
    ).returning(jobs.c.id)
)

_new_jobs = unnest(VALUES, name="new_jobs")

_INSERT_MANY = skip_taken(
    insert(jobs).from_select(
        COLUMNS,
        sa.select(
            *(as_jsonb(_new_jobs.c.args) if name == "args" else _new_jobs.c[name] for name in VALUES), UNDECIDED
        ).order_by(_new_jobs.c.ordinality),
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
                _all_args.c.args if name == "args" else sa.bindparam(name, type_=type_)
                for name, type_ in VALUES.items()
            ),
            UNDECIDED,
        ).order_by(_all_args.c.ordinality),
    )
    .returning(jobs.c.id)
)
_LARGEST_TEXT = 10_000_000
"""Characters. A value of ``jsonb`` has 256 MB at most, and small numbers take several times as much as their text: 40
million characters of them were refused."""


def defer_job(connection: sa.Connection, job: NewJob) -> int | None:
    """Insert one job, in one statement.

    Returns
    -------
    The job's id, or ``None`` where another job waits under the same queueing lock. That is no database
    error: a transaction that the caller has open stays usable.
    """
    parameters = {name: getattr(job, name) for name in VALUES}
    return connection.execute(_INSERT_ONE, parameters).scalar_one_or_none()


def defer_jobs(connection: sa.Connection, new_jobs: Sequence[NewJob]) -> list[int]:
    """Insert jobs in one statement; those whose queueing lock is taken are left out.

    Returns
    -------
    The ids, in the order of ``new_jobs``. Fewer than there are jobs: some queueing lock was taken,
    and which ids belong to which job is then not told.
    """
    if not new_jobs:
        return []
    ids = connection.execute(_INSERT_MANY, transpose(new_jobs, VALUES)).scalars()
    # Numbers are drawn from the sequence in the order of the rows; RETURNING promises no order.
    return sorted(ids)


def defer_jobs_alike(connection: sa.Connection, pattern: NewJob, all_args: Sequence[str]) -> list[int]:
    """Insert jobs that differ in their arguments alone, in one statement.

    All arguments go as one JSON array, and the rest once: 12 µs a job in place of 24, at a thousand a statement, most
    of it in the driver and in reading arrays of text.

    Parameters
    ----------
    pattern:
        What they have in common, without a queueing lock.
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
    return sorted(ids)  # as for defer_jobs()


class _NotAll(Exception):
    """Leaves the savepoint."""


@atomic
def defer_jobs_or_none(connection: sa.Connection, new_jobs: Sequence[NewJob]) -> list[int] | None:
    """Insert all jobs, or, where any queueing lock is taken, none.

    Returns
    -------
    The ids, in the order of ``new_jobs``; ``None`` when nothing was inserted. The caller's transaction
    stays usable: a savepoint is rolled back, not the transaction.
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
    """Insert the jobs in the order of their queueing locks, with ids in the order in which they were given.

    All statements take the locks in one order, so two batches cannot wait for each other.
    """
    values = [as_jsonb(_new_jobs.c.args) if name == "args" else _new_jobs.c[name] for name in VALUES]
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
    """The id of the next job, drawn before it is inserted."""
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
    """Insert a job, or find the one that waits under its queueing lock.

    Returns
    -------
    The id of the one or the other. ``None`` where, time and again, a job held the queueing lock at the insert and
    had started when it was looked for.
    """
    ids = _insert_or_find(connection, [job])
    return None if ids is None else ids[0]


@atomic
def defer_jobs_or_skip(connection: sa.Connection, new_jobs: Sequence[NewJob]) -> list[int] | None:
    """Insert jobs; instead of those whose queueing lock is taken, find the ones that wait. All of them, or none.

    Jobs of ``new_jobs`` that share a queueing lock are one: the first.

    Returns
    -------
    The ids, in the order of ``new_jobs``; ``None`` as for :func:`defer_job_or_skip`, and nothing was inserted.
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
    """A waiting job that starts between insert and look (or was not committed yet) is found by looking again."""
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
    """Insert jobs; where the queueing lock is taken, the waiting job gets everything of the new one. One statement.

    The waiting job keeps its id, its history and its number of attempts. A job that has started is left alone: the
    new one is inserted beside it. Jobs of ``new_jobs`` that share a queueing lock are one: the last.

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
    """One job for each queueing lock, at the place of the first: the first itself, or the last."""
    chosen: dict[object, NewJob] = {}
    for place, job in enumerate(new_jobs):
        key: object = place if job.queueing_lock is None else job.queueing_lock
        if last or key not in chosen:
            chosen[key] = job
    return list(chosen.values())


def _in_order(new_jobs: Iterable[NewJob], unlocked: Iterable[int], by_lock: Mapping[str, int]) -> list[int]:
    """The ids as the jobs were given. Ids of jobs without a queueing lock were drawn in that order."""
    rest = iter(sorted(unlocked))
    return [next(rest) if job.queueing_lock is None else by_lock[job.queueing_lock] for job in new_jobs]


def find_taken_queueing_lock(connection: sa.Connection, queueing_locks: Sequence[str]) -> str | None:
    """The first of the queueing locks under which a job waits, for an error message that names it."""
    taken = sa.select(jobs.c.queueing_lock).where(
        holds_queueing_lock(), jobs.c.queueing_lock.in_(sa.bindparam("queueing_locks", expanding=True))
    )
    found = set(connection.execute(taken, {"queueing_locks": list(queueing_locks)}).scalars())
    return next((lock for lock in queueing_locks if lock in found), None)
