"""Operation that defers each tick of a periodic task once and deletes old ticks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Insert, insert

from procrastinate.core.arrays import is_one_of
from procrastinate.core.defaults import KEEP_TICKS_FOR
from procrastinate.core.defer import (
    Extent,
    bound,
    extent_of,
    next_id,
    replace_waiting,
    row_of,
    skip_taken,
    values_of,
)
from procrastinate.core.lock_timeouts import wait_briefly
from procrastinate.core.operation_marks import atomic, plain
from procrastinate.core.rows import NewJob
from procrastinate.core.tables import jobs, periodic_defers
from procrastinate.core.unique import defer_unique_jobs
from procrastinate.core.unique_keys import TakenKey, UniqueJob
from procrastinate.types import OnConflict


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TickOutcome:
    """Outcome of a cron tick. ``job_id`` is the deferred job, or ``None`` if this call deferred none.

    ``taken`` is the unique key of the job if another job holds it.
    """

    job_id: int | None
    queueing_lock_taken: bool = False
    taken: TakenKey | None = None

    @property
    def is_late(self) -> bool:
        """True if the tick was deferred before."""
        return self.job_id is None and not self.queueing_lock_taken and self.taken is None


_FORGET_AT_ONCE = 100
"""Maximum number of old ticks that a new tick deletes. So years of old ticks disappear over time."""

_TASK_NAME = sa.bindparam("task_name", type_=sa.Text())
_PERIODIC_ID = sa.bindparam("periodic_id", type_=sa.Text())
_TICK = sa.bindparam("defer_timestamp", type_=sa.BigInteger())


def _of_schedule(ticks: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(ticks.c.task_name == _TASK_NAME, ticks.c.periodic_id == _PERIODIC_ID)


def _oldest_kept() -> sa.ColumnElement[int]:
    """Return the time of the oldest kept tick in seconds since 1970, rounded up."""
    seconds: sa.ColumnElement[float] = sa.bindparam("keep_for", type_=sa.Double())
    return sa.cast(sa.func.ceil(sa.extract("epoch", sa.func.now()) - seconds), sa.BigInteger)


def _may_be_new() -> sa.ColumnElement[bool]:
    """Return the condition "this tick may be new": its row cannot have been deleted, or no later tick is recorded."""
    seen = periodic_defers.alias("seen")
    last = sa.select(sa.func.max(seen.c.defer_timestamp)).where(_of_schedule(seen)).scalar_subquery()
    return sa.or_(_oldest_kept() <= _TICK, sa.func.coalesce(last, _TICK) <= _TICK)


def _forget_old_ticks(tick: sa.CTE) -> sa.CTE:
    """Delete the oldest ticks of the schedule, but never the newest of the old ones.

    Every deleted tick therefore keeps a later one after it, which marks it as not new.
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


def _claim_tick() -> sa.CTE:
    return (
        insert(periodic_defers)
        .from_select(
            ["task_name", "periodic_id", "defer_timestamp", "job_id"],
            sa.select(_TASK_NAME, _PERIODIC_ID, _TICK, next_id()).where(_may_be_new()),
        )
        .on_conflict_do_nothing(constraint="procrastinate_periodic_defers_unique")
        .returning(periodic_defers.c.job_id)
        .cte("tick")
    )


def _tick_statement(on_conflict: Callable[..., Insert], *, extent: Extent) -> sa.Select[Any]:
    tick = _claim_tick()
    row = row_of(bound, extent=extent)
    new_job = insert(jobs).from_select(["id", *row], sa.select(tick.c.job_id, *row.values()).select_from(tick))
    job = on_conflict(new_job, extent=extent).returning(jobs.c.id).cte("job")
    claimed = sa.select(tick.c.job_id, job.c.id).select_from(tick.outerjoin(job, sa.true()))
    return claimed.add_cte(_forget_old_ticks(tick))


def _tick_alone_statement() -> sa.Select[Any]:
    tick = _claim_tick()
    return sa.select(tick.c.job_id).add_cte(_forget_old_ticks(tick))


_CLAIM_TICK = _tick_alone_statement()
_DEFER_TICK = {
    (replace, extent): _tick_statement(replace_waiting if replace else skip_taken, extent=extent)
    for replace in (False, True)
    for extent in Extent
}
_POINT_TICK = (
    sa.update(periodic_defers)
    .where(periodic_defers.c.job_id == sa.bindparam("claimed", type_=sa.BigInteger()))
    .values(job_id=sa.bindparam("waiting", type_=sa.BigInteger()))
)


_FORMER_NAME = sa.bindparam("former_name", type_=sa.Text())


def _is_renamed() -> sa.ColumnElement[bool]:
    """Return the condition "the schedule has ticks under the former name, and has had its new one for a short time".

    The new name is settled if it has an old tick, and every later tick of the former name has the new one, too. A
    release that is rolled back defers ticks under the former name alone, so the new one has to settle again.
    """
    before, since, twin = (periodic_defers.alias(name) for name in ("before", "since", "twin"))
    of_former = before.c.task_name == _FORMER_NAME, before.c.periodic_id == _PERIODIC_ID
    settled_at = (
        sa.select(sa.func.max(since.c.defer_timestamp))
        .where(_of_schedule(since), since.c.defer_timestamp < _oldest_kept())
        .scalar_subquery()
    )
    # PostgreSQL makes no join of a scalar subquery, so each tick probes the index, whatever the statistics say.
    in_both = _of_schedule(twin), twin.c.defer_timestamp == before.c.defer_timestamp
    twin_id = sa.select(twin.c.id).where(*in_both).correlate(before).scalar_subquery()
    is_alone = sa.exists().where(*of_former, before.c.defer_timestamp > settled_at, twin_id.is_(None))
    return sa.and_(sa.exists().where(*of_former), sa.or_(settled_at.is_(None), is_alone))


def _adopt_tick() -> Insert:
    """Record under the present name a tick that was deferred under the former one, so that it can be explained."""
    former = periodic_defers.alias("former")
    of_former = former.c.task_name == _FORMER_NAME, former.c.periodic_id == _PERIODIC_ID
    columns = (_TASK_NAME, former.c.periodic_id, former.c.defer_timestamp, former.c.job_id)
    return (
        insert(periodic_defers)
        .from_select(
            ["task_name", "periodic_id", "defer_timestamp", "job_id"],
            sa.select(*columns).where(*of_former, former.c.defer_timestamp == _TICK),
        )
        .on_conflict_do_nothing(constraint="procrastinate_periodic_defers_unique")
    )


_IS_RENAMED = sa.select(_is_renamed().label("is_renamed"))
_ADOPT_TICK = _adopt_tick()
_JOB_OF_TICK = sa.select(periodic_defers.c.job_id).where(
    _of_schedule(periodic_defers), periodic_defers.c.defer_timestamp == _TICK
)


def _point(connection: sa.Connection, claims: Sequence[int], job_id: int | None) -> None:
    """Point the rows of claims at the job of their tick, or at none."""
    for claim in claims:
        connection.execute(_POINT_TICK, {"claimed": claim, "waiting": job_id})


def _point_at_taken(connection: sa.Connection, claims: Sequence[int], tick: dict[str, Any]) -> None:
    """Point the rows of claims at the job of the tick that was deferred before. A tick that is too old has none."""
    if claims:
        _point(connection, claims, connection.execute(_JOB_OF_TICK, tick).scalar_one_or_none())


def _claim_under(connection: sa.Connection, former_names: Sequence[str], tick: dict[str, Any]) -> list[int] | None:
    """Claim a tick under former names of the task, so that workers of an older release do not defer it.

    Return the numbers in the rows of the claims. If one claim fails, return ``None``, and the others get its job.
    """
    claimed: list[int] = []
    for name in former_names:
        if not connection.execute(_IS_RENAMED, tick | {"former_name": name}).scalar_one():
            continue
        claim = connection.execute(_CLAIM_TICK, tick | {"task_name": name}).scalar_one_or_none()
        if claim is None:
            _point_at_taken(connection, claimed, tick | {"task_name": name})
            connection.execute(_ADOPT_TICK, tick | {"former_name": name})
            return None
        claimed.append(claim)
    return claimed


def _tick_parameters(task_name: str, periodic_id: str, defer_timestamp: int, keep_for: float) -> dict[str, Any]:
    return {
        "task_name": task_name,
        "periodic_id": periodic_id,
        "defer_timestamp": defer_timestamp,
        "keep_for": keep_for,
    }


_HAS_TICK = plain(
    sa.select(
        sa.exists().where(_of_schedule(periodic_defers), periodic_defers.c.defer_timestamp == _TICK).label("has_tick")
    )
)


def has_tick(connection: sa.Connection, *, task_name: str, periodic_id: str, defer_timestamp: int) -> bool:
    """Return true if this tick was deferred already. A false answer may be outdated when it arrives."""
    tick = {"task_name": task_name, "periodic_id": periodic_id, "defer_timestamp": defer_timestamp}
    return bool(connection.execute(_HAS_TICK, tick).scalar_one())


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
    former_names: Sequence[str] = (),
) -> TickOutcome:
    """Defer the job of one cron tick, once across all workers.

    One statement claims the tick and inserts the job. A tick whose queueing lock is taken counts as deferred, because a
    job that does the same work waits already.

    Each new tick deletes some old ones of its schedule. The function does not defer a tick that is older than
    ``keep_for`` and has a later one after it, so a deleted row never leads to a second job.

    Parameters
    ----------
    defer_timestamp:
        The tick, in seconds since 1970.
    replace:
        Overwrite the job that waits under the queueing lock with the job of this tick.
    keep_for:
        Seconds to keep ticks, counted from their time. Must exceed the time that any worker catches up on.
    briefly:
        Wait at most half a second for a queueing lock that an open transaction has taken, then raise a lock timeout
        (:func:`~procrastinate.core.errors.is_lock_timeout`).
    former_names:
        Other names of the task. The tick is not deferred if it was deferred under one of them.
    """
    if briefly:
        wait_briefly(connection)
    tick = _tick_parameters(job.task_name, periodic_id, defer_timestamp, keep_for)
    claims = _claim_under(connection, former_names, tick)
    if claims is None:
        return TickOutcome(job_id=None)
    extent = extent_of(job)
    parameters = {name: getattr(job, name) for name in values_of(extent=extent)} | tick
    row = connection.execute(_DEFER_TICK[replace, extent], parameters).one_or_none()
    if row is None:
        _point_at_taken(connection, claims, tick)
        return TickOutcome(job_id=None)
    claimed_id, job_id = row
    _point(connection, claims if job_id == claimed_id else [claimed_id, *claims], job_id)
    return TickOutcome(job_id=job_id, queueing_lock_taken=job_id is None)


@atomic
def defer_unique_tick(
    connection: sa.Connection,
    job: UniqueJob,
    *,
    on_conflict: OnConflict,
    periodic_id: str,
    defer_timestamp: int,
    keep_for: float = KEEP_TICKS_FOR,
    briefly: bool = False,
    former_names: Sequence[str] = (),
) -> TickOutcome:
    """Defer the job of one cron tick as :func:`defer_tick` does, if its unique key is free.

    A tick whose key is taken counts as deferred. ``on_conflict`` is that of
    :func:`~procrastinate.core.unique.defer_unique_jobs`. With ``skip``, the tick has the job that holds the key.
    """
    if briefly:
        wait_briefly(connection)
    tick = _tick_parameters(job.job.task_name, periodic_id, defer_timestamp, keep_for)
    claims = _claim_under(connection, former_names, tick)
    if claims is None:
        return TickOutcome(job_id=None)
    claimed_id = connection.execute(_CLAIM_TICK, tick).scalar_one_or_none()
    if claimed_id is None:
        _point_at_taken(connection, claims, tick)
        return TickOutcome(job_id=None)
    deferred = defer_unique_jobs(connection, [job], on_conflict=on_conflict)
    job_id = deferred.ids[0] if deferred.taken is None else None
    _point(connection, [claimed_id, *claims], job_id)
    return TickOutcome(job_id=job_id, taken=deferred.taken)
