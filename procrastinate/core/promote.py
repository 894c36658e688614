"""The operation that makes waiting jobs ready: those whose time has come, and whose lock is free."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import OID

from procrastinate.core.arrays import array_param, is_not_set_aside, is_one_of, write_array
from procrastinate.core.defaults import PROMOTED_AT_ONCE
from procrastinate.core.operation_marks import finds_first_row_of, prepared
from procrastinate.core.rows import Promotion
from procrastinate.core.tables import (
    DOING,
    IN_LINE,
    PARKED,
    PROMOTED,
    UNDECIDED,
    arrivals,
    due_at,
    holds_lock,
    is_parked,
    is_upcoming,
    jobs,
    openings,
)
from procrastinate.core.windows import first_window

_ADVISORY_LOCKS = 0x70726F63 << 32
"""Where this project's advisory locks are ("proc" in ASCII), so as not to meet the user's."""


def turn_key() -> int:
    """Return the upper half of the key of the advisory lock, as ``pg_locks.classid`` shows it."""
    return _ADVISORY_LOCKS >> 32


def _materialized(select: sa.Select[Any], name: str) -> sa.CTE:
    return select.cte(name).prefix_with("MATERIALIZED", dialect="postgresql")


def turn_taken() -> sa.ColumnElement[bool]:
    """Take the turn of promotions and admissions until the end of the transaction, unless another session has it."""
    return sa.func.pg_try_advisory_xact_lock(_key_of_turn(), type_=sa.Boolean())


def turn_awaited() -> sa.ColumnElement[Any]:
    """Take the same turn, and wait for it as long as the lock timeout allows."""
    return sa.func.pg_advisory_xact_lock(_key_of_turn())


def _key_of_turn() -> sa.ColumnElement[int]:
    return sa.literal_column(str(_ADVISORY_LOCKS), type_=sa.BigInteger()) + table_of_jobs()


def table_of_jobs() -> sa.ColumnElement[int]:
    """Return the number of the table of jobs, so that queues of one database have advisory locks of their own."""
    return sa.cast(sa.cast(sa.func.to_regclass(jobs.name), OID), sa.BigInteger)


def _take_turn() -> sa.CTE:
    """Take the turn of the only promoter of this table of jobs. The next one leaves the work to the first.

    Two at once gave locks to different jobs, in different orders, and waited for each other in the index: with four
    workers, 12,000 jobs under 3,000 locks took minutes and 50 deadlocks. Alone, it takes seconds.

    The turn is for speed alone. Any session that can connect can hold this lock for as long as it likes, so a caller
    must be able to go on without it.
    """
    return _materialized(sa.select(turn_taken().label("mine")), "turn")


def _due(
    may_decide: sa.ColumnElement[bool], now: sa.ColumnElement[Any], *more: sa.ColumnElement[Any]
) -> sa.Select[Any]:
    """Select the jobs to decide on, the longest due first, and then in the order in which they should run. Of a long
    backlog only some are looked at at a time, and a lock goes to the first of these. A job with a limit
    gets in line first, and its lock is looked at when it has a slot. No job waits with a lock in its hand.
    """
    limit = sa.bindparam("limit", type_=sa.Integer())
    is_limited = jobs.c.limit_name.is_not(None)
    lock = sa.case((is_limited, sa.null()), else_=jobs.c.lock)
    return (
        sa.select(jobs.c.id, lock.label("lock"), jobs.c.priority, is_limited.label("is_limited"), *more)
        .where(may_decide, is_upcoming(), due_at() <= now)
        .order_by(due_at(), jobs.c.priority.desc(), jobs.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )


def lock_holders(due: sa.FromClause) -> sa.CTE:
    """Return the holder of each lock that is wanted, as it is seen, and as it could be locked.

    Lateral, one row each: the unique index is probed once a lock, whatever the planner believes of the table. While an
    old transaction is open, a probe passes all former holders. So the row to lock is found by its id, and the CASE
    hides the condition of that index from the planner.
    """
    wanted = sa.select(due.c.lock).where(due.c.lock.is_not(None)).distinct().cte("wanted")
    holder = jobs.alias("holder_now")
    of_lock = sa.and_(holder.c.lock == wanted.c.lock, holds_lock(holder))
    seen = sa.select(holder.c.id).where(of_lock).limit(1).lateral("seen")
    kept = (
        sa.select(holder.c.id, holder.c.status, holder.c.priority)
        .where(holder.c.id == seen.c.id, sa.case((of_lock, sa.true()), else_=sa.false()))
        .limit(1)
        .with_for_update(read=True, skip_locked=True)
        .lateral("kept")
    )
    columns = (wanted.c.lock, seen.c.id.label("seen_id"), kept.c.id.label("kept_id"), kept.c.status, kept.c.priority)
    return _materialized(
        sa.select(*columns).select_from(wanted.outerjoin(seen, sa.true()).outerjoin(kept, sa.true())), "holder"
    )


def _comes_before(one: sa.FromClause, other: sa.FromClause, other_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Return the condition "this job of a lock runs before that one": by priority, then by id."""
    return sa.or_(one.c.priority > other.c.priority, sa.and_(one.c.priority == other.c.priority, one.c.id < other_id))


def _outranked(ranked: sa.CTE, holder: sa.CTE) -> sa.CTE:
    """Return the promoted jobs that have not started and that the first waiting job outranks."""
    first = ranked.alias("first")
    return (
        sa.select(holder.c.kept_id.label("id"), holder.c.lock)
        .join(first, sa.and_(first.c.lock == holder.c.lock, first.c.place == 1))
        .where(holder.c.status != DOING, _comes_before(first, holder, holder.c.kept_id))
        .cte("outranked")
    )


def _orphans(ranked: sa.CTE, holder: sa.CTE, *may_go_on: Callable[[sa.FromClause], sa.ColumnElement[bool]]) -> sa.CTE:
    """Lock the first parked job of each free lock, and return those that come before the first due job.

    The job that had the lock has left and has not seen them. A parked job with a limit has no slot, so it waits for a
    sweep.
    """
    first, parked = ranked.alias("first_of_lock"), jobs.alias("parked")
    head = (
        sa.select(parked.c.id, parked.c.priority)
        .where(
            holder.c.seen_id.is_(None),
            parked.c.lock == holder.c.lock,
            is_parked(parked),
            parked.c.limit_name.is_(None),
            *(condition(parked) for condition in may_go_on),
        )
        .order_by(parked.c.priority.desc(), parked.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .lateral("head")
    )
    of_lock = sa.and_(first.c.lock == holder.c.lock, first.c.place == 1)
    found = holder.join(first, of_lock).join(head, sa.true())
    return _materialized(
        sa.select(head.c.id, holder.c.lock).select_from(found).where(_comes_before(head, first, first.c.id)), "orphan"
    )


def _verdict(due: sa.CTE, *may_go_on: Callable[[sa.FromClause], sa.ColumnElement[bool]]) -> sa.CTE:
    """Decide on each due job.

    A job without a lock is promoted. Of the jobs that want a lock, the first (by priority, then id) is promoted if the
    lock is free. The others are parked behind it, and a trigger takes the next one out when the holder leaves. A job
    that was parked before, and that comes before all of them, is promoted in their place.

    Parking is only safe while the holder cannot leave, so this statement locks the holder's row. If it cannot, because
    the holder is just leaving or a user's open transaction has the row, the last job is left for another look. The
    others are parked all the same. The holder hands the lock to the first of them, or the next look finds them.

    A promoted job that has not started gives way to one that outranks it. A job with a limit gets in line.

    Parameters
    ----------
    may_go_on:
        Conditions under which a parked job may be promoted.
    """
    order = due.c.priority.desc(), due.c.id
    place = sa.func.row_number().over(partition_by=due.c.lock, order_by=order)
    next_id = sa.func.lead(due.c.id).over(partition_by=due.c.lock, order_by=order)
    ranked = sa.select(due, place.label("place"), next_id.is_(None).label("is_last")).cte("ranked")
    holder = lock_holders(due)
    outranked, orphan = _outranked(ranked, holder), _orphans(ranked, holder, *may_go_on)
    is_first = sa.and_(holder.c.seen_id.is_(None), ranked.c.place == 1, orphan.c.id.is_(None))
    is_free = sa.or_(ranked.c.lock.is_(None), is_first)
    is_safe = sa.or_(holder.c.seen_id.is_(None), holder.c.kept_id.is_not(None), ~ranked.c.is_last)
    readiness = sa.case((ranked.c.is_limited, IN_LINE), (is_free, PROMOTED), else_=PARKED)
    return (
        sa.select(ranked.c.id, readiness.label("readiness"), sa.true().label("is_due"))
        .select_from(
            ranked.outerjoin(holder, holder.c.lock == ranked.c.lock)
            .outerjoin(outranked, outranked.c.lock == ranked.c.lock)
            .outerjoin(orphan, orphan.c.lock == ranked.c.lock)
        )
        .where(outranked.c.id.is_(None), is_safe)
        .union_all(sa.select(outranked.c.id, UNDECIDED, sa.false()), sa.select(orphan.c.id, PROMOTED, sa.false()))
        .cte("verdict")
    )


_PAUSED = array_param("paused", sa.Text())


def _verdict_with_pauses(due: sa.CTE) -> sa.CTE:
    """Decide on each due job while queues are paused.

    A job of a paused queue is parked: it gets no lock, and no promotion looks at it again. If its lock is free,
    the first parked job of an open queue goes on. A trigger that frees the next job of a lock may choose a paused one.
    """
    is_paused = due.c.queue_name == sa.any_(_PAUSED)
    open_ = sa.select(due.c.id, due.c.lock, due.c.priority, due.c.is_limited).where(~is_paused).cte("open_due")
    held = sa.select(due.c.id, due.c.own_lock.label("lock")).where(is_paused).cte("held")
    verdict = _verdict(open_, lambda table: table.c.queue_name != sa.all_(_PAUSED))
    locks = sa.select(held.c.lock).where(held.c.lock.is_not(None)).distinct().subquery("lock_of_held")
    holder, waiting = jobs.alias("holder_of_held"), jobs.alias("waiting")
    is_held = sa.select(holder.c.id).where(holder.c.lock == locks.c.lock, holds_lock(holder)).exists()
    following = (
        sa.select(waiting.c.id)
        .where(waiting.c.lock == locks.c.lock, is_parked(waiting), waiting.c.queue_name != sa.all_(_PAUSED))
        .order_by(waiting.c.priority.desc(), waiting.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .lateral("following")
    )
    freed = (
        sa.select(following.c.id, UNDECIDED, sa.false()).select_from(locks.join(following, sa.true())).where(~is_held)
    )
    return (
        sa.select(verdict.c.id, verdict.c.readiness, verdict.c.is_due)
        .union_all(sa.select(held.c.id, PARKED, sa.true()), freed)
        .cte("verdict_with_pauses")
    )


def _first_due(now: sa.ColumnElement[Any]) -> sa.ScalarSelect[int]:
    first = jobs.alias("first_due")
    return (
        sa.select(first.c.id)
        .where(is_upcoming(first), due_at(first) <= now)
        .order_by(due_at(first), first.c.priority.desc(), first.c.id)
        .limit(1)
        .scalar_subquery()
    )


def _seconds_to_next_due(now: sa.ColumnElement[Any], clock: sa.ColumnElement[Any]) -> sa.ScalarSelect[Any]:
    """Return the seconds until the next job is due, or the next window of a rate opens.

    The difference of the times themselves is an error before PostgreSQL 17 if one of them is infinite.
    """
    later = jobs.alias("later")
    next_time = sa.func.least(sa.func.min(due_at(later)), first_window(now))
    return (
        sa.select(sa.extract("epoch", next_time) - sa.extract("epoch", clock))
        .where(is_upcoming(later), due_at(later) > now, sa.func.isfinite(due_at(later)))
        .scalar_subquery()
    )


def has_arrivals() -> sa.ColumnElement[bool]:
    """Return the condition "members of workflows have ended, and the next steps have not been looked at"."""
    return sa.select(arrivals.c.id).order_by(arrivals.c.id).limit(1).scalar_subquery().is_not(None)


def _promotion_statement(
    now: sa.ColumnElement[Any],
    clock: sa.ColumnElement[Any],
    decide: Callable[[sa.CTE], sa.CTE] = _verdict,
    columns: Sequence[sa.ColumnElement[Any]] = (),
    *,
    sets_aside: bool = False,
) -> sa.Select[Any]:
    """Return the statement of a promotion. ``columns`` are further columns of the due jobs that ``decide`` needs."""
    turn = _take_turn()
    is_our_turn = sa.select(turn.c.mine).scalar_subquery()
    may_decide = sa.or_(is_our_turn, sa.bindparam("without_turn", type_=sa.Boolean()))
    if sets_aside:
        may_decide = sa.and_(may_decide, is_not_set_aside(jobs.c.id))
    due = _materialized(_due(may_decide, now, *columns), "due")
    verdict = decide(due)
    # The probes bound what is read. A plan for the join alone may read the whole table, if that was small when the plan
    # was made.
    decided = (
        sa.update(jobs)
        .where(jobs.c.id == verdict.c.id, is_one_of(jobs.c.id, sa.select(verdict.c.id)))
        .values(readiness=verdict.c.readiness)
        .returning(jobs.c.readiness, verdict.c.is_due)
        .cte("decided")
    )
    examined: sa.ColumnElement[int] = sa.select(sa.func.count()).select_from(due).scalar_subquery()
    if columns:  # a job that goes on in place of a paused one must be decided on as well
        examined = examined + sa.func.count().filter(decided.c.readiness == UNDECIDED)
    return sa.select(
        is_our_turn.label("had_turn"),
        sa.case((~is_our_turn, _first_due(now))).label("first_due"),
        examined.label("due"),
        sa.func.count().filter(decided.c.readiness == PROMOTED).label("promoted"),
        sa.func.count().filter(decided.c.readiness.in_((PARKED, IN_LINE))).label("parked"),
        sa.func.count().filter(decided.c.readiness != UNDECIDED, decided.c.is_due).label("settled"),
        sa.or_(
            sa.func.coalesce(sa.func.bool_or(decided.c.readiness == IN_LINE), sa.false()),
            sa.select(openings.c.id).order_by(openings.c.id).limit(1).scalar_subquery().is_not(None),
            sa.func.coalesce(first_window() <= now, sa.false()),
        ).label("has_openings"),
        _seconds_to_next_due(now, clock).label("next_due_in"),
        has_arrivals().label("has_arrivals"),
    ).select_from(decided)


_DUE_BY = sa.bindparam("due_by", type_=sa.DateTime(timezone=True))
_NOW_OR_DUE_BY = sa.func.coalesce(_DUE_BY, sa.func.now())
_PROMOTE = prepared(_promotion_statement(sa.func.now(), sa.func.clock_timestamp()))
_FIRST_DUE = _due(is_not_set_aside(jobs.c.id), _NOW_OR_DUE_BY)


@functools.cache
def _promote_due_by() -> sa.Select[Any]:
    return _promotion_statement(_DUE_BY, _DUE_BY)


# Rows that the database refuses to change are rare, and so are pauses. Without any, the promotion keeps its plan.
@functools.cache
def _promote_but_some() -> sa.Select[Any]:
    return _promotion_statement(_NOW_OR_DUE_BY, sa.func.clock_timestamp(), sets_aside=True)


@functools.cache
def _promote_with_pauses() -> sa.Select[Any]:
    columns = (jobs.c.queue_name, jobs.c.lock.label("own_lock"))
    clock = sa.func.clock_timestamp()
    return _promotion_statement(_NOW_OR_DUE_BY, clock, _verdict_with_pauses, columns, sets_aside=True)


def promote_jobs(
    connection: sa.Connection,
    *,
    limit: int = PROMOTED_AT_ONCE,
    due_by: datetime.datetime | None = None,
    without_turn: bool = False,
    set_aside: Sequence[int] = (),
    paused: Sequence[str] = (),
) -> Promotion:
    """Make ready the waiting jobs whose time has come and whose lock is free, at most ``limit``, in one statement.

    For a worker, on a connection in autocommit: it decides for every queue. While another session has the turn, nothing
    is done, and ``again`` says so. A decision made just before another one was seen may give a lock to a second job.
    The unique index refuses it (:func:`~procrastinate.core.errors.is_unique_violation`), and the call is made again.

    Parameters
    ----------
    limit:
        Jobs to read at most. Give more if the last promotion left that many undecided. They come first again, and would
        hide the jobs behind them.
    due_by:
        What the time is, for tests that move the clock; the database's time by default.
    without_turn:
        Decide although another session may have the turn. Where it promotes as well, either may be a deadlock
        (:func:`~procrastinate.core.errors.is_deadlock`): call again.
    set_aside:
        Ids of jobs to pass over.
    paused:
        Queues whose due jobs are parked, whether they have a lock or not.
    """
    values: dict[str, Any] = {"limit": limit, "without_turn": without_turn}
    if paused:
        values |= {"due_by": due_by, "set_aside": list(set_aside), "paused": write_array(paused, sa.Text())}
        row = connection.execute(_promote_with_pauses(), values).one()
    elif set_aside:
        row = connection.execute(_promote_but_some(), values | {"due_by": due_by, "set_aside": list(set_aside)}).one()
    elif due_by is None:
        row = connection.execute(_PROMOTE, values).one()
    else:
        row = connection.execute(_promote_due_by(), values | {"due_by": due_by}).one()
    has_decided = row.had_turn or without_turn
    return Promotion(
        promoted=row.promoted,
        again=not has_decided or row.due >= limit or row.due > row.settled,
        next_due_in=None if row.next_due_in is None else float(row.next_due_in),
        parked=row.parked,
        undecided=row.due - row.settled if has_decided else None,
        had_turn=row.had_turn,
        first_due=row.first_due,
        has_openings=row.has_openings,
        has_arrivals=row.has_arrivals,
    )


@finds_first_row_of(promote_jobs)
def first_due_job(
    connection: sa.Connection, *, due_by: datetime.datetime | None = None, set_aside: Sequence[int] = ()
) -> int | None:
    """Return the id of the job on which a promotion would decide first, or ``None``."""
    return (
        connection.execute(_FIRST_DUE, {"due_by": due_by, "limit": 1, "set_aside": list(set_aside)}).scalars().first()
    )
