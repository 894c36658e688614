"""Queues that workers serve. A job of another queue gets no slot of a limit, and does not keep one.

It is parked, as a job of a paused queue is, so that no admission looks at it again and again. When a worker serves its
queue, it gets in line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from procrastinate.core.arrays import is_not_set_aside, is_one_of
from procrastinate.core.operation_marks import finds_first_row_of
from procrastinate.core.tables import IN_LINE, PROMOTED, TODO, holds_slot, jobs, workers


def served_queues() -> sa.ScalarSelect[Any]:
    """Return the array of the queues that workers serve, or NULL if one serves all queues, or if there is no worker.

    A worker that is stopping serves none. One of an older release does not say its queues, and counts for all.
    """
    served = sa.func.unnest(workers.c.queues).table_valued("name", name="served").render_derived()
    serves_all = sa.func.coalesce(sa.func.cardinality(workers.c.queues) == 0, sa.true())
    names = sa.func.array_agg(sa.distinct(served.c.name), type_=ARRAY(sa.Text))
    return (
        sa.select(sa.case((sa.not_(sa.func.bool_or(serves_all, type_=sa.Boolean())), names)))
        .select_from(workers.outerjoin(served, sa.true()))
        .where(workers.c.state.is_distinct_from(sa.literal_column("'draining'")))
        .correlate(None)
        .scalar_subquery()
    )


def may_have_slot(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition "the job has no limit, or a worker serves its queue"."""
    return sa.or_(table.c.limit_name.is_(None), _is_served(table))


def _is_served(table: sa.FromClause) -> sa.ColumnElement[bool]:
    names = served_queues()
    place = sa.func.array_position(names, sa.cast(table.c.queue_name, sa.Text))
    return sa.or_(names.is_(None), place.is_not(None))


_HOLDERS = (
    sa.select(jobs.c.id)
    .where(
        holds_slot(),
        jobs.c.status == TODO,
        jobs.c.readiness == PROMOTED,
        sa.not_(_is_served(jobs)),
        is_not_set_aside(jobs.c.id),
    )
    .order_by(jobs.c.limit_name, jobs.c.limit_key)
    .limit(sa.bindparam("limit", type_=sa.Integer()))
    .with_for_update(skip_locked=True)
)
_TAKE_SLOTS = (
    sa.update(jobs)
    .where(is_one_of(jobs.c.id, _HOLDERS))
    .values(readiness=IN_LINE, scheduled_at=sa.func.coalesce(jobs.c.scheduled_at, sa.func.now()))
    .returning(jobs.c.id)
)


def take_unserved_slots(connection: sa.Connection, *, limit: int = 1000, set_aside: Sequence[int] = ()) -> list[int]:
    """Take the slots of some unclaimed jobs whose queue no worker serves. Return the ids of the jobs.

    They get in line, and an admission decides on their slots.
    """
    return list(connection.execute(_TAKE_SLOTS, {"limit": limit, "set_aside": list(set_aside)}).scalars())


@finds_first_row_of(take_unserved_slots)
def first_unserved_holder(connection: sa.Connection, *, set_aside: Sequence[int] = ()) -> int | None:
    """Return the id of the job whose slot :func:`take_unserved_slots` would take first, or ``None``."""
    return connection.execute(_HOLDERS, {"limit": 1, "set_aside": list(set_aside)}).scalars().first()
