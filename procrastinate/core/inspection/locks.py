"""The load of the locks that jobs wait for."""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa

from procrastinate.core.inspection.bounds import Count, first_rows, load, moment, to_count
from procrastinate.core.inspection.records import Locks, LockState
from procrastinate.core.inspection.rows import NEIGHBOUR, neighbour, started_at
from procrastinate.core.inspection.states import WALKS
from procrastinate.core.job_states import JobState
from procrastinate.core.operation_marks import may_lag
from procrastinate.core.tables import DOING, holds_lock, jobs

_LOOKED_AT = 20_000
_SHOWN = 50

_parked = first_rows(WALKS[JobState.BLOCKED].select(jobs.c.lock, jobs.c.id), _LOOKED_AT + 1, "parked")
_lines = (
    sa.select(
        _parked.c.lock.label("waited_for"),
        sa.func.count().label("number"),
        sa.func.min(_parked.c.id).label("first_waiting_id"),
        sa.func.sum(sa.func.count()).over().label("total"),
    )
    .group_by(_parked.c.lock)
    .order_by(sa.func.count().desc(), _parked.c.lock)
    .limit(sa.literal_column(str(_SHOWN)))
    .cte("lines")
)
_RUNNING_SINCE = moment(sa.case((jobs.c.status == DOING, started_at(jobs.c.id)))).label("running_since")
_LOCKS: sa.Select[Any] = (
    sa.select(_lines, *NEIGHBOUR, _RUNNING_SINCE)
    .select_from(_lines.outerjoin(jobs, sa.and_(holds_lock(), jobs.c.lock == _lines.c.waited_for)))
    .order_by(_lines.c.number.desc(), _lines.c.waited_for)
)


@may_lag
@load
def load_locks(connection: sa.Connection, now: datetime.datetime) -> Locks:
    """Return the locks with the most waiting jobs, and the job that holds each."""
    rows = connection.execute(_LOCKS).all()
    total = to_count(int(rows[0].total) if rows else 0, _LOOKED_AT)
    return Locks(
        now=now,
        looked_at=total,
        locks=tuple(
            LockState(
                lock=row.waited_for,
                # The line that the limit cut is the last one read, and any may be it.
                waiting=Count(number=row.number, is_more=total.is_more and row.number >= _LOOKED_AT),
                holder=None if row.id is None else neighbour(row),
                running_since=row.running_since,
                first_waiting_id=row.first_waiting_id,
            )
            for row in rows
        ),
    )
