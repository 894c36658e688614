"""The operation that makes waiting jobs ready: those whose time has come, and whose lock is free."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import OID

from procrastinate.core.arrays import is_not_set_aside, is_one_of, time_param, write_array
from procrastinate.core.defaults import PROMOTED_AT_ONCE, SMALLEST_PRIORITY
from procrastinate.core.operation_marks import finds_first_row_of, prepared
from procrastinate.core.rows import Promotion
from procrastinate.core.tables import (
    IN_LINE,
    PARKED,
    PROMOTED,
    UNDECIDED,
    arrivals,
    due_at,
    is_upcoming,
    jobs,
    openings,
)
from procrastinate.core.verdicts import (
    is_in_open_queue,
    lock_holders,
    materialized,
    orphans,
    ranked_by_lock,
    verdict,
    verdict_with_pauses,
)
from procrastinate.core.windows import first_window

_ADVISORY_LOCKS = 0x70726F63 << 32
"""Where this project's advisory locks are ("proc" in ASCII), so as not to meet the user's."""


def turn_key() -> int:
    """Return the upper half of the key of the advisory lock, as ``pg_locks.classid`` shows it."""
    return _ADVISORY_LOCKS >> 32


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
    return materialized(sa.select(turn_taken().label("mine")), "turn")


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


def _is_in_play(table: sa.FromClause) -> sa.ColumnElement[bool]:
    return is_not_set_aside(table.c.id)


def _promotion_statement(
    now: sa.ColumnElement[Any],
    clock: sa.ColumnElement[Any],
    decide: Callable[..., sa.CTE] = verdict,
    columns: Sequence[sa.ColumnElement[Any]] = (),
    *,
    sets_aside: bool = False,
) -> sa.Select[Any]:
    """Return the statement of a promotion. ``columns`` are further columns of the due jobs that ``decide`` needs."""
    turn = _take_turn()
    is_our_turn = sa.select(turn.c.mine).scalar_subquery()
    may_decide = sa.or_(is_our_turn, sa.bindparam("without_turn", type_=sa.Boolean()))
    may_change = [_is_in_play] if sets_aside else []
    due = materialized(_due(sa.and_(may_decide, *(one(jobs) for one in may_change)), now, *columns), "due")
    decision = decide(due, *may_change)
    # The probes bound what is read. A plan for the join alone may read the whole table, if that was small when the plan
    # was made.
    decided = (
        sa.update(jobs)
        .where(jobs.c.id == decision.c.id, is_one_of(jobs.c.id, sa.select(decision.c.id)))
        .values(readiness=decision.c.readiness)
        .returning(jobs.c.readiness, decision.c.is_due)
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


_DUE_BY = time_param("due_by")
_NOW_OR_DUE_BY = sa.func.coalesce(_DUE_BY, sa.func.now())
_PROMOTE = prepared(_promotion_statement(sa.func.now(), sa.func.clock_timestamp()))


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
    return _promotion_statement(_NOW_OR_DUE_BY, clock, verdict_with_pauses, columns, sets_aside=True)


@functools.cache
def _first_to_change() -> sa.Select[Any]:
    due = materialized(_due(_is_in_play(jobs), _NOW_OR_DUE_BY, jobs.c.queue_name), "due")
    # A job of a paused queue is parked, whatever its priority, and lets the first parked job of its lock go on.
    priority = sa.case((is_in_open_queue(due), due.c.priority), else_=SMALLEST_PRIORITY)
    asked = sa.select(due.c.id, due.c.lock, priority.label("priority")).cte("asked")
    orphan = orphans(ranked_by_lock(asked), lock_holders(asked), is_in_open_queue, _is_in_play)
    return sa.select(sa.func.coalesce(sa.select(orphan.c.id).scalar_subquery(), sa.select(due.c.id).scalar_subquery()))


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
    connection: sa.Connection,
    *,
    due_by: datetime.datetime | None = None,
    set_aside: Sequence[int] = (),
    paused: Sequence[str] = (),
) -> int | None:
    """Return the id of the job that a promotion would change first, or ``None``.

    It is the first due job, or the parked job that gets the lock in its place.
    """
    values = {"due_by": due_by, "limit": 1, "set_aside": list(set_aside), "paused": write_array(paused, sa.Text())}
    return connection.execute(_first_to_change(), values).scalars().first()
