"""The operation that defers the ticks of periodic tasks, each once, and forgets those of long ago."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Insert, insert

from procrastinate.core.arrays import is_one_of
from procrastinate.core.defer import COLUMNS, VALUES, as_jsonb, next_id, replace_waiting, skip_taken
from procrastinate.core.operation_marks import atomic
from procrastinate.core.rows import NewJob
from procrastinate.core.tables import UNDECIDED, jobs, periodic_defers
from procrastinate.core.timeouts import wait_briefly


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TickOutcome:
    """What became of a cron tick: ``job_id`` where it was deferred here and now."""

    job_id: int | None
    queueing_lock_taken: bool = False


KEEP_TICKS_FOR = 86_400.0
"""Seconds that the rows of ticks are kept at least."""
_FORGET_AT_ONCE = 100
"""How many old ticks go with a new one: of a schedule that was kept for years, too, they come to an end."""

_TASK_NAME = sa.bindparam("task_name", type_=sa.Text())
_PERIODIC_ID = sa.bindparam("periodic_id", type_=sa.Text())
_TICK = sa.bindparam("defer_timestamp", type_=sa.BigInteger())


def _of_schedule(ticks: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(ticks.c.task_name == _TASK_NAME, ticks.c.periodic_id == _PERIODIC_ID)


def _oldest_kept() -> sa.ColumnElement[int]:
    """In seconds since 1970, rounded up."""
    seconds: sa.ColumnElement[float] = sa.bindparam("keep_for", type_=sa.Double())
    return sa.cast(sa.func.ceil(sa.extract("epoch", sa.func.now()) - seconds), sa.BigInteger)


def _may_be_new() -> sa.ColumnElement[bool]:
    """Not a tick so old that its row may be forgotten: one with a later one after it was deferred, or passed over."""
    seen = periodic_defers.alias("seen")
    last = sa.select(sa.func.max(seen.c.defer_timestamp)).where(_of_schedule(seen)).scalar_subquery()
    return sa.or_(_oldest_kept() <= _TICK, sa.func.coalesce(last, _TICK) <= _TICK)


def _forget_old_ticks(tick: sa.CTE) -> sa.CTE:
    """Delete the oldest of the schedule, but never the newest of those that are old. What is deleted has a later one
    after it, for ever, and by that is known not to be new.
    """
    old, newest = periodic_defers.alias("old"), periodic_defers.alias("newest")
    keep = (
        sa.select(sa.func.max(newest.c.defer_timestamp))
        .where(_of_schedule(newest), newest.c.defer_timestamp < _oldest_kept())
        .scalar_subquery()
    )
    oldest = (
        sa.select(old.c.id)
        .where(_of_schedule(old), old.c.defer_timestamp < keep, sa.select(tick.c.job_id).exists())
        .order_by(old.c.defer_timestamp)
        .limit(_FORGET_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    return sa.delete(periodic_defers).where(is_one_of(periodic_defers.c.id, oldest)).cte("forgotten")


def _tick_statement(on_conflict: Callable[[Insert], Insert]) -> sa.Select[Any]:
    tick = (
        insert(periodic_defers)
        .from_select(
            ["task_name", "periodic_id", "defer_timestamp", "job_id"],
            sa.select(_TASK_NAME, _PERIODIC_ID, _TICK, next_id()).where(_may_be_new()),
        )
        .on_conflict_do_nothing(constraint="procrastinate_periodic_defers_unique")
        .returning(periodic_defers.c.job_id)
        .cte("tick")
    )
    values = {
        name: as_jsonb(sa.bindparam("args", type_=type_)) if name == "args" else sa.bindparam(name, type_=type_)
        for name, type_ in VALUES.items()
    }
    job = (
        on_conflict(
            insert(jobs).from_select(
                ["id", *COLUMNS], sa.select(tick.c.job_id, *values.values(), UNDECIDED).select_from(tick)
            )
        )
        .returning(jobs.c.id)
        .cte("job")
    )
    claimed = sa.select(tick.c.job_id, job.c.id).select_from(tick.outerjoin(job, sa.true()))
    return claimed.add_cte(_forget_old_ticks(tick))


_DEFER_TICK = _tick_statement(skip_taken)
_DEFER_TICK_OR_REPLACE = _tick_statement(replace_waiting)
_POINT_TICK = (
    sa.update(periodic_defers)
    .where(periodic_defers.c.job_id == sa.bindparam("claimed", type_=sa.BigInteger()))
    .values(job_id=sa.bindparam("waiting", type_=sa.BigInteger()))
)


@atomic
def defer_tick(
    connection: sa.Connection,
    job: NewJob,
    *,
    periodic_id: str,
    defer_timestamp: int,
    replace: bool = False,
    keep_for: float = KEEP_TICKS_FOR,
    briefly: bool = False,
) -> TickOutcome:
    """Defer the job of one cron tick, once, whoever else tries.

    The tick is claimed and the job inserted in one statement. A tick whose queueing lock is taken counts as
    deferred: a job that does the same work is waiting.

    With a new tick, old ones of the schedule are forgotten, some at a time. A tick that is older than ``keep_for``,
    with a later one after it, is not deferred any more: so none is deferred twice because its row is gone.

    Parameters
    ----------
    defer_timestamp:
        The tick, in seconds since 1970.
    replace:
        A job that waits under the queueing lock becomes the job of this tick.
    keep_for:
        Seconds for which ticks are remembered, by their time: more than any worker makes up for.
    briefly:
        Wait half a second for a queueing lock that somebody's open transaction has taken, and no longer:
        :func:`~procrastinate.core.errors.is_lock_timeout`.
    """
    if briefly:
        wait_briefly(connection)
    parameters = {name: getattr(job, name) for name in VALUES}
    parameters |= {"periodic_id": periodic_id, "defer_timestamp": defer_timestamp, "keep_for": keep_for}
    row = connection.execute(_DEFER_TICK_OR_REPLACE if replace else _DEFER_TICK, parameters).one_or_none()
    if row is None:
        return TickOutcome(job_id=None)
    claimed_id, job_id = row
    if job_id != claimed_id:
        connection.execute(_POINT_TICK, {"claimed": claimed_id, "waiting": job_id})
    return TickOutcome(job_id=job_id, queueing_lock_taken=job_id is None)
