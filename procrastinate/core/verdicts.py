"""Decide what becomes of due jobs: each is promoted, is parked behind its lock, gets in line, or is looked at again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import sqlalchemy as sa

from procrastinate.core.arrays import array_param
from procrastinate.core.tables import (
    DOING,
    IN_LINE,
    PARKED,
    PROMOTED,
    TODO,
    UNDECIDED,
    holds_lock,
    is_parked,
    jobs,
)

MayGoOn: TypeAlias = Callable[[sa.FromClause], sa.ColumnElement[bool]]
"""Returns a condition under which a parked job of a table may become ready."""

_PAUSED = array_param("paused", sa.Text())


def materialized(select: sa.Select[Any], name: str) -> sa.CTE:
    """Return a part of a statement that PostgreSQL runs once and as it is written."""
    return select.cte(name).prefix_with("MATERIALIZED", dialect="postgresql")


def is_in_open_queue(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition "the queue of this job is none of the paused ones"."""
    return table.c.queue_name != sa.all_(_PAUSED)


def lock_holders(due: sa.FromClause) -> sa.CTE:
    """Return the holder of each lock that is wanted, as it is seen, and as it could be locked.

    Lateral, one row each: the unique index is probed once a lock, whatever the planner believes of the table. While an
    old transaction is open, a probe passes all former holders. So the row to lock is found by its id, and the CASE
    hides the condition of that index from the planner.
    """
    wanted = sa.select(due.c.lock).where(due.c.lock.is_not(None)).distinct().cte("wanted")
    holder = jobs.alias("holder_now")
    of_lock = sa.and_(holder.c.lock == wanted.c.lock, holds_lock(holder))
    seen = sa.select(holder.c.id, holder.c.status, holder.c.priority).where(of_lock).limit(1).lateral("seen")
    kept = (
        sa.select(holder.c.id, holder.c.status, holder.c.priority)
        .where(holder.c.id == seen.c.id, sa.case((of_lock, sa.true()), else_=sa.false()))
        .limit(1)
        .with_for_update(read=True, skip_locked=True)
        .lateral("kept")
    )
    columns = (
        wanted.c.lock,
        seen.c.id.label("seen_id"),
        seen.c.status.label("seen_status"),
        seen.c.priority.label("seen_priority"),
        kept.c.id.label("kept_id"),
        kept.c.status,
        kept.c.priority,
    )
    return materialized(
        sa.select(*columns).select_from(wanted.outerjoin(seen, sa.true()).outerjoin(kept, sa.true())), "holder"
    )


def first_parked(lock: sa.ColumnElement[str], *may_go_on: MayGoOn) -> sa.FromClause:
    """Lock the first parked job of a lock that may go on. A row that another session has locked is passed over."""
    parked = jobs.alias("parked")
    return (
        sa.select(parked.c.id, parked.c.priority)
        .where(parked.c.lock == lock, is_parked(parked), *(condition(parked) for condition in may_go_on))
        .order_by(parked.c.priority.desc(), parked.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .lateral("head")
    )


def _comes_before(
    one: sa.FromClause, priority: sa.ColumnElement[int], job_id: sa.ColumnElement[int]
) -> sa.ColumnElement[bool]:
    """Return the condition "this job of a lock runs before that one": by priority, then by id."""
    return sa.or_(one.c.priority > priority, sa.and_(one.c.priority == priority, one.c.id < job_id))


def ranked_by_lock(due: sa.CTE) -> sa.CTE:
    """Return the due jobs with their place among those of their lock, and whether they are the last of it."""
    order = due.c.priority.desc(), due.c.id
    place = sa.func.row_number().over(partition_by=due.c.lock, order_by=order)
    next_id = sa.func.lead(due.c.id).over(partition_by=due.c.lock, order_by=order)
    return sa.select(due, place.label("place"), next_id.is_(None).label("is_last")).cte("ranked")


def _outranked(ranked: sa.CTE, holder: sa.CTE) -> sa.CTE:
    """Return the promoted jobs that have not started and that the first waiting job outranks."""
    first = ranked.alias("first")
    return (
        sa.select(holder.c.kept_id.label("id"), holder.c.lock)
        .join(first, sa.and_(first.c.lock == holder.c.lock, first.c.place == 1))
        .where(holder.c.status != DOING, _comes_before(first, holder.c.priority, holder.c.kept_id))
        .cte("outranked")
    )


def orphans(ranked: sa.CTE, holder: sa.CTE, *may_go_on: MayGoOn) -> sa.CTE:
    """Lock the first parked job of each free lock, and return those that come before the first due job.

    The job that had the lock has left and has not seen them. A parked job with a limit has no slot, so it waits for a
    sweep.
    """
    first = ranked.alias("first_of_lock")
    head = first_parked(
        holder.c.lock,
        lambda _: holder.c.seen_id.is_(None),
        lambda table: table.c.limit_name.is_(None),
        *may_go_on,
    )
    of_lock = sa.and_(first.c.lock == holder.c.lock, first.c.place == 1)
    found = holder.join(first, of_lock).join(head, sa.true())
    comes_first = _comes_before(head, first.c.priority, first.c.id)
    return materialized(sa.select(head.c.id, holder.c.lock).select_from(found).where(comes_first), "orphan")


def _is_safe(ranked: sa.CTE, holder: sa.CTE) -> sa.ColumnElement[bool]:
    """Return the condition "this job may be parked, if it does not get the lock".

    While a user's transaction has the holder's row, at most two jobs of the lock are looked at again and again.
    """
    overtakes = sa.and_(
        ranked.c.place == 1,
        holder.c.seen_status == TODO,
        _comes_before(ranked, holder.c.seen_priority, holder.c.seen_id),
    )
    may_wait_parked = sa.and_(~ranked.c.is_last, ~overtakes)
    return sa.or_(holder.c.seen_id.is_(None), holder.c.kept_id.is_not(None), may_wait_parked)


def verdict(due: sa.CTE, *may_go_on: MayGoOn) -> sa.CTE:
    """Decide on each due job.

    A job without a lock is promoted. Of the jobs that want a lock, the first (by priority, then id) is promoted if the
    lock is free. The others are parked behind it, and a trigger takes the next one out when the holder leaves. A job
    that was parked before, and that comes before all of them, is promoted in their place.

    Parking is only safe while the holder cannot leave, so this statement locks the holder's row. If it cannot, because
    the holder is just leaving or a user's open transaction has the row, the last job is left for another look. The
    others are parked all the same. The holder hands the lock to the first of them, or the next look finds them.

    A promoted job that has not started gives way to the first job, if that outranks it. If the row of the promoted job
    is locked, the first job is left for another look as well. A job with a limit gets in line.

    Parameters
    ----------
    may_go_on:
        What a parked job needs to be promoted.
    """
    ranked, holder = ranked_by_lock(due), lock_holders(due)
    outranked, orphan = _outranked(ranked, holder), orphans(ranked, holder, *may_go_on)
    is_first = sa.and_(holder.c.seen_id.is_(None), ranked.c.place == 1, orphan.c.id.is_(None))
    is_free = sa.or_(ranked.c.lock.is_(None), is_first)
    readiness = sa.case((ranked.c.is_limited, IN_LINE), (is_free, PROMOTED), else_=PARKED)
    return (
        sa.select(ranked.c.id, readiness.label("readiness"), sa.true().label("is_due"))
        .select_from(
            ranked.outerjoin(holder, holder.c.lock == ranked.c.lock)
            .outerjoin(outranked, outranked.c.lock == ranked.c.lock)
            .outerjoin(orphan, orphan.c.lock == ranked.c.lock)
        )
        .where(outranked.c.id.is_(None), _is_safe(ranked, holder))
        .union_all(sa.select(outranked.c.id, UNDECIDED, sa.false()), sa.select(orphan.c.id, PROMOTED, sa.false()))
        .cte("verdict")
    )


def verdict_with_pauses(due: sa.CTE, *may_go_on: MayGoOn) -> sa.CTE:
    """Decide on each due job while queues are paused.

    A job of a paused queue is parked: it gets no lock, and no promotion looks at it again. If its lock is free and no
    due job wants it, the first parked job of an open queue goes on. A trigger that frees the next job of a lock may
    choose a paused one.
    """
    is_paused = due.c.queue_name == sa.any_(_PAUSED)
    open_ = sa.select(due.c.id, due.c.lock, due.c.priority, due.c.is_limited).where(~is_paused).cte("open_due")
    held = sa.select(due.c.id, due.c.own_lock.label("lock")).where(is_paused).cte("held")
    of_open = verdict(open_, is_in_open_queue, *may_go_on)
    locks = sa.select(held.c.lock).where(held.c.lock.is_not(None)).distinct().subquery("lock_of_held")
    holder = jobs.alias("holder_of_held")
    is_held = sa.select(holder.c.id).where(holder.c.lock == locks.c.lock, holds_lock(holder)).exists()
    is_wanted = sa.select(open_.c.id).where(open_.c.lock == locks.c.lock).exists()
    following = first_parked(locks.c.lock, is_in_open_queue, *may_go_on)
    freed = (
        sa.select(following.c.id, UNDECIDED, sa.false())
        .select_from(locks.join(following, sa.true()))
        .where(~is_held, ~is_wanted)
    )
    return (
        sa.select(of_open.c.id, of_open.c.readiness, of_open.c.is_due)
        .union_all(sa.select(held.c.id, PARKED, sa.true()), freed)
        .cte("verdict_with_pauses")
    )
