"""Operations that defer jobs with unique keys. A key has one row, which names the job that holds it.

Nothing writes the row when that job starts or ends: a defer that finds the key looks whether the job still holds it. So
workers pay nothing, and a job that is retried or rescued holds its key again.

Two defers of one key cannot both succeed. Each takes the key only from the job that its snapshot shows as the holder,
and the row is locked while it does so. A defer whose snapshot is too old looks again.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.types import TypeEngine

from procrastinate.core.arrays import transpose, unnest
from procrastinate.core.defaults import CLOCK_TOLERANCE
from procrastinate.core.defer import Extent, extent_of, next_id, row_of, stored, values_of
from procrastinate.core.enums import Status
from procrastinate.core.errors import SERIALIZATION_FAILURE, sqlstate
from procrastinate.core.operation_marks import atomic
from procrastinate.core.tables import DOING, TODO, jobs, status_literal, uniques
from procrastinate.core.unique_keys import (
    TakenKey,
    UniqueDefer,
    UniqueJob,
    given_twice,
    in_order,
    one_for_each_key,
)
from procrastinate.core.watchers import epoch
from procrastinate.types import OnConflict

_TRIES = 5
_HELD = ("held", "held_by_waiting")
_KEY: dict[str, TypeEngine[Any]] = {
    "key": sa.Text(),
    "until": sa.Text(),
    "period": sa.Double(),
    "max_wait": sa.Double(),
}
_KEY_NOW: sa.ColumnElement[str] = sa.literal_column(f"{uniques.name}.key", type_=sa.Text())
_HOLDER_NOW: sa.ColumnElement[int] = sa.literal_column(f"{uniques.name}.job_id", type_=sa.BigInteger())
_NOW = sa.func.statement_timestamp(type_=sa.DateTime(timezone=True))
_TOLERANCE: sa.ColumnElement[int] = sa.literal_column(str(CLOCK_TOLERANCE))
_NOT_ENDED = (TODO, DOING, status_literal(Status.ABORTING))


def _seconds(number: sa.ColumnElement[float]) -> sa.ColumnElement[Any]:
    return number * sa.literal_column("interval '1 second'", type_=sa.Interval())


def is_over(held: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition "the period of the key is over".

    A period that begins in more than a minute, and later than it lasts, is of a time when the clock was wrong.
    Otherwise a clock that was once a year ahead would keep the key for a year.
    """
    lasts = epoch(held.c.expires_at) - epoch(held.c.taken_at)
    is_of_wrong_clock = epoch(held.c.taken_at) - epoch(_NOW) > sa.func.greatest(lasts, _TOLERANCE)
    return sa.or_(held.c.expires_at <= _NOW, is_of_wrong_clock)


def is_free(holder: sa.FromClause, held: sa.FromClause = uniques) -> sa.ColumnElement[bool]:
    """Return the condition "the key is free again". ``holder`` is the job of the key, outer joined."""
    return sa.case(
        (held.c.until == "period", is_over(held)),
        (held.c.until == "start", sa.func.coalesce(holder.c.status != TODO, sa.true())),
        else_=sa.func.coalesce(holder.c.status.not_in(_NOT_ENDED), sa.true()),
    )


def _may_write() -> sa.ColumnElement[bool]:
    """Return the condition "a key that another session takes now leads to no error".

    At REPEATABLE READ and above PostgreSQL fails a statement that meets a newer row than its snapshot has. There the
    statement needs a savepoint.
    """
    return sa.or_(
        sa.bindparam("has_savepoint", type_=sa.Boolean()),
        sa.func.current_setting("transaction_isolation").in_(
            [sa.literal_column("'read committed'"), sa.literal_column("'read uncommitted'")]
        ),
    )


@functools.cache  # each takes 8 ms to build, and a program needs one or two of the four
def _defer_statement(*, replace: bool, extent: Extent) -> sa.CompoundSelect[Any]:
    """Look at the keys, take the free ones, and insert their jobs, in one statement.

    The rows have the key, the id of a job, and what became of the key: ``new``, ``held`` by a job that has started or
    ended, ``held_by_waiting``, ``replaced``, or ``unsafe`` if only a statement behind a savepoint may take a key.
    """
    given = unnest(values_of(extent=extent) | _KEY, name="given")
    wanted = sa.select(given).cte("wanted").prefix_with("MATERIALIZED", dialect="postgresql")
    seen = _look(wanted)
    new = _number(wanted, seen, extent)
    taken = _take(new)
    written = _insert(new, taken, extent)
    rows = [
        _row(written.c.key, written.c.id, _fate("new")),
        _row(seen.c.key, seen.c.job_id, _held_by(seen), seen.c.until, seen.c.expires_at).where(sa.not_(seen.c.is_free)),
        _row(sa.null(), sa.null(), _fate("unsafe")).where(sa.not_(_may_write())),
    ]
    if replace:
        replaced = _replace(wanted, seen, extent)
        rows.append(_row(replaced.c.key, replaced.c.id, _fate("replaced")))
    return sa.union_all(*rows)


def readable(time: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return a time that Python's datetime reaches in every time zone. Only plain SQL stores others."""
    first: sa.ColumnElement[Any] = sa.literal_column("'0001-01-03 00:00+00'::timestamptz")
    last: sa.ColumnElement[Any] = sa.literal_column("'9999-12-30 00:00+00'::timestamptz")
    in_range = sa.func.least(sa.func.greatest(time, first), last, type_=sa.DateTime(timezone=True))
    return sa.case((time.is_not(None), in_range))  # least() passes over NULL


def _fate(fate: str) -> sa.ColumnElement[str]:
    return sa.literal_column(f"'{fate}'", type_=sa.Text())


def _held_by(seen: sa.CTE) -> sa.ColumnElement[str]:
    return sa.case((seen.c.status == TODO, _fate("held_by_waiting")), else_=_fate("held"))


def _row(
    key: sa.ColumnElement[Any],
    job_id: sa.ColumnElement[Any],
    fate: sa.ColumnElement[str],
    until: sa.ColumnElement[Any] | None = None,
    expires_at: sa.ColumnElement[Any] | None = None,
) -> sa.Select[Any]:
    columns: list[sa.ColumnElement[Any]] = [
        sa.cast(key, sa.Text).label("key"),
        sa.cast(job_id, sa.BigInteger).label("id"),
        fate.label("fate"),
        sa.cast(sa.null() if until is None else until, sa.Text).label("until"),
        (sa.cast(sa.null(), sa.DateTime(timezone=True)) if expires_at is None else readable(expires_at)).label(
            "expires_at"
        ),
    ]
    return sa.select(*columns)


def _look(wanted: sa.CTE) -> sa.CTE:
    """Find the holders of the keys, as the snapshot shows them."""
    return (
        sa.select(
            wanted.c.key,
            uniques.c.job_id,
            uniques.c.until,
            uniques.c.taken_at,
            uniques.c.expires_at,
            uniques.c.start_by,
            jobs.c.status,
            jobs.c.attempts,
            is_free(jobs).label("is_free"),
        )
        .select_from(wanted.join(uniques, uniques.c.key == wanted.c.key).outerjoin(jobs, jobs.c.id == uniques.c.job_id))
        .cte("seen")
    )


def _number(wanted: sa.CTE, seen: sa.CTE, extent: Extent) -> sa.CTE:
    """Give ids to the jobs whose keys are free, in the order of the input."""
    deadline = _NOW + _seconds(wanted.c.max_wait)
    names = [name for name in values_of(extent=extent) if name != "scheduled_at"]
    values = [stored(name, wanted.c[name]) for name in names]
    return (
        sa.select(
            next_id().label("id"),
            *(value.label(name) for name, value in zip(names, values, strict=True)),
            _not_after(wanted.c.scheduled_at, deadline).label("scheduled_at"),
            wanted.c.key,
            wanted.c.until,
            (_NOW + _seconds(wanted.c.period)).label("expires_at"),
            deadline.label("start_by"),
        )
        .select_from(wanted.outerjoin(seen, seen.c.key == wanted.c.key))
        .where(sa.func.coalesce(seen.c.is_free, sa.true()), _may_write())
        .order_by(wanted.c.ordinality)
        .cte("new")
    )


def _not_after(
    schedule: sa.ColumnElement[Any], *deadlines: sa.ColumnElement[Any]
) -> sa.ColumnElement[datetime.datetime]:
    """Return the schedule, or an earlier deadline. A job without a schedule keeps none."""
    return sa.case((schedule.is_not(None), sa.func.least(schedule, *deadlines)), else_=sa.null())


def _take(new: sa.CTE) -> sa.CTE:
    """Take the keys, in their order so that two batches cannot deadlock, from the holders that the snapshot shows.

    The row is the newest one and is locked. The query for ``was`` reads by the snapshot, so it finds the row only if
    no other session has taken the key since.
    """
    was = uniques.alias("was")
    statement = insert(uniques).from_select(
        ["key", "job_id", "until", "taken_at", "expires_at", "start_by"],
        sa.select(new.c.key, new.c.id, new.c.until, _NOW, new.c.expires_at, new.c.start_by)
        .where(new.c.key.is_not(None))
        .order_by(new.c.key),
    )
    # SQLAlchemy leaves out the table of a column in this clause, which would compare "was" with itself.
    same = sa.select(was.c.key).where(was.c.key == _KEY_NOW, was.c.job_id == _HOLDER_NOW)
    names = ("job_id", "until", "taken_at", "expires_at", "start_by")
    return (
        statement.on_conflict_do_update(
            index_elements=["key"],
            set_={name: statement.excluded[name] for name in names},
            where=same.exists(),
        )
        .returning(uniques.c.job_id)
        .cte("taken")
    )


def _insert(new: sa.CTE, taken: sa.CTE, extent: Extent) -> sa.CTE:
    """Insert the jobs that have no key, or have taken it."""
    row = row_of(lambda name, _: new.c[name], extent=extent)
    chosen = (
        sa.select(new.c.id, *row.values())
        .select_from(new.outerjoin(taken, taken.c.job_id == new.c.id))
        .where(sa.or_(new.c.key.is_(None), taken.c.job_id.is_not(None)))
        .order_by(new.c.id)
    )
    inserted = insert(jobs).from_select(["id", *row], chosen).returning(jobs.c.id).cte("inserted")
    return sa.select(new.c.key, new.c.id).join(inserted, inserted.c.id == new.c.id).cte("written")


def _replace(wanted: sa.CTE, seen: sa.CTE, extent: Extent) -> sa.CTE:
    """Overwrite the holders that wait, in the order of their ids so that two batches cannot deadlock.

    A job that has started since the snapshot has another status. One that has also come back has other attempts.
    """
    held = (
        sa.select(jobs.c.id, seen.c.key, seen.c.start_by, seen.c.taken_at)
        .join(seen, sa.and_(seen.c.job_id == jobs.c.id, seen.c.attempts == jobs.c.attempts))
        .where(jobs.c.status == TODO, sa.not_(seen.c.is_free), _may_write())
        .order_by(jobs.c.id)
        .with_for_update(of=jobs, key_share=True)
        .cte("waiting")
    )
    schedule = _not_after(wanted.c.scheduled_at, held.c.start_by, held.c.taken_at + _seconds(wanted.c.max_wait))
    row = row_of(
        lambda name, _: schedule if name == "scheduled_at" else stored(name, wanted.c[name]),
        extent=extent,
    )
    del row["queueing_lock"]
    row.setdefault("limit_weight", sa.null())
    return (
        sa.update(jobs)
        .where(jobs.c.id == held.c.id, held.c.key == wanted.c.key, jobs.c.status == TODO)
        .values(**row)
        .returning(held.c.key, jobs.c.id)
        .cte("replaced")
    )


def defer_unique_job(connection: sa.Connection, job: UniqueJob, *, on_conflict: OnConflict) -> UniqueDefer:
    """Defer a job if its key is free, in one statement.

    An expected conflict is no error of the database, so the caller's transaction stays usable.

    Parameters
    ----------
    on_conflict:
        If another job holds the key, ``raise`` returns :attr:`UniqueDefer.taken`. ``skip`` returns the id of that job.
        ``replace`` overwrites it if it waits, and otherwise returns as ``raise`` does.

    Returns
    -------
    If :attr:`UniqueDefer.needs_savepoint` is true, nothing was deferred. Call :func:`defer_unique_jobs` then.
    """
    return _defer(connection, [job], on_conflict, has_savepoint=False)


class _NotAll(Exception):
    """Roll back the savepoint."""

    def __init__(self, taken: TakenKey) -> None:
        super().__init__()
        self.taken = taken


@atomic
def defer_unique_jobs(
    connection: sa.Connection, new_jobs: Sequence[UniqueJob], *, on_conflict: OnConflict
) -> UniqueDefer:
    """Defer all jobs or none, as :func:`defer_unique_job` does, behind a savepoint.

    If several jobs of ``new_jobs`` have the same key, ``raise`` defers none, ``skip`` defers the first, and ``replace``
    the last.
    """
    chosen = new_jobs
    if on_conflict == "raise":
        twice = given_twice(new_jobs)
        if twice is not None:
            return UniqueDefer(taken=TakenKey(key=twice))
    else:
        chosen = one_for_each_key(new_jobs, last=on_conflict == "replace")
    try:
        with connection.begin_nested():
            deferred = _defer(connection, chosen, on_conflict, has_savepoint=True)
            if deferred.taken is not None:
                raise _NotAll(deferred.taken)
    except _NotAll as refusal:
        return UniqueDefer(taken=refusal.taken)
    except Exception as error:  # Django raises errors of its own
        if sqlstate(error) == SERIALIZATION_FAILURE:
            return UniqueDefer(taken=_not_seen(chosen))
        raise
    return UniqueDefer(ids=in_order(new_jobs, chosen, deferred.ids))


def _not_seen(new_jobs: Iterable[UniqueJob]) -> TakenKey:
    """Return what is known of a key that another session has taken since the snapshot of this transaction."""
    keys = [job.unique.key for job in new_jobs if job.unique is not None]
    return TakenKey(key=keys[0] if len(keys) == 1 else None)


def _defer(
    connection: sa.Connection, new_jobs: Sequence[UniqueJob], on_conflict: OnConflict, *, has_savepoint: bool
) -> UniqueDefer:
    """Defer the jobs, and look again at keys that another session has just taken, or whose holder has just started."""
    extent = max(Extent.EXTENDED, *(extent_of(job.job) for job in new_jobs))
    statement = _defer_statement(replace=on_conflict == "replace", extent=extent)
    by_key: dict[str, int] = {}
    without_key: list[int] = []
    missing = list(new_jobs)
    for _ in range(_TRIES):
        parameters = _parameters(missing, extent) | {"has_savepoint": has_savepoint}
        rows = connection.execute(statement, parameters).all()
        without_key += [row.id for row in rows if row.key is None and row.fate == "new"]
        by_key |= {row.key: row.id for row in rows if row.key is not None and row.fate in ("new", "replaced")}
        held = [row for row in rows if row.fate in _HELD and row.key not in by_key]
        if on_conflict == "skip":
            by_key |= {row.key: row.id for row in held}
            held = []
        refusing = [row for row in held if on_conflict == "raise" or row.fate == "held"]
        if refusing:
            return UniqueDefer(taken=_taken(refusing[0]))
        missing = [job for job in missing if job.unique is not None and job.unique.key not in by_key]
        if not missing and len(without_key) + len(by_key) == len(new_jobs):
            return UniqueDefer(ids=_ids(new_jobs, without_key, by_key))
        if any(row.fate == "unsafe" for row in rows):
            return UniqueDefer(needs_savepoint=True)
    return UniqueDefer(taken=_not_seen(missing))


def _taken(row: sa.Row[Any]) -> TakenKey:
    return TakenKey(key=row.key, job_id=row.id, until=row.until, expires_at=row.expires_at)


def _ids(new_jobs: Iterable[UniqueJob], without_key: Iterable[int], by_key: Mapping[str, int]) -> tuple[int, ...]:
    """Return the ids in the order of the input, in which the jobs without a key have got theirs."""
    rest = iter(sorted(without_key))
    return tuple(next(rest) if job.unique is None else by_key[job.unique.key] for job in new_jobs)


def _parameters(new_jobs: Sequence[UniqueJob], extent: Extent) -> dict[str, Any]:
    keys = [job.unique or _NO_KEY for job in new_jobs]
    return transpose([job.job for job in new_jobs], values_of(extent=extent)) | transpose(keys, _KEY)


@dataclasses.dataclass(frozen=True)
class _NoKey:
    key: None = None
    until: None = None
    period: None = None
    max_wait: None = None


_NO_KEY = _NoKey()
