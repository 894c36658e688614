"""Pauses of queues: while one lasts, workers start no job of the queue.

A pause is a row. A trigger notifies the workers of each change, and every heartbeat returns the pauses as well. A job
of a paused queue that falls due is parked, so that it holds no lock and no promotion looks at it again.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from procrastinate.core.arrays import is_not_set_aside, is_one_of, time_param
from procrastinate.core.criteria import equals
from procrastinate.core.fetch import from_microseconds, microseconds
from procrastinate.core.operation_marks import finds_first_row_of, plain
from procrastinate.core.rows import Pause
from procrastinate.core.tables import TODO, UNDECIDED, holds_lock, holds_slot, jobs, paused_queues


def lasts() -> sa.ColumnElement[bool]:
    """Return the condition "this pause has not ended"."""
    return sa.or_(paused_queues.c.paused_until.is_(None), paused_queues.c.paused_until > sa.func.now())


def is_open(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition "the queue of this job is not paused"."""
    return ~sa.exists().where(paused_queues.c.queue_name == table.c.queue_name, lasts())


def pause_queue(
    connection: sa.Connection,
    queue: str,
    *,
    reason: str | None = None,
    until: datetime.datetime | None = None,
    by: str | None = None,
) -> None:
    """Pause a queue, or change the reason and the end of its pause.

    Parameters
    ----------
    until:
        The time at which the pause ends by itself.
    """
    values = {"reason": reason, "paused_until": time_param("until"), "paused_by": by}
    statement = insert(paused_queues).values(queue_name=queue, **values)
    since = sa.case((lasts(), paused_queues.c.paused_at), else_=sa.func.now())
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["queue_name"],
            set_={name: statement.excluded[name] for name in values} | {"paused_at": since},
        ),
        {"until": until},
    )


def resume_queue(connection: sa.Connection, queue: str) -> bool:
    """End the pause of a queue, and return true if it was paused."""
    named = equals(paused_queues.c.queue_name, queue)
    statement = sa.delete(paused_queues).where(named).returning(lasts().label("lasts"))
    return connection.execute(statement).scalar_one_or_none() is True


_LIST = (
    sa.select(
        paused_queues.c.queue_name,
        microseconds(paused_queues.c.paused_at).label("since"),
        microseconds(paused_queues.c.paused_until).label("until"),
        paused_queues.c.paused_by,
        paused_queues.c.reason,
    )
    .where(lasts())
    .order_by(paused_queues.c.queue_name)
)


def list_pauses(connection: sa.Connection) -> list[Pause]:
    """Return the pauses that last, ordered by queue."""
    return [
        Pause(
            queue=row.queue_name,
            since=from_microseconds(row.since),
            until=from_microseconds(row.until),
            by=row.paused_by,
            reason=row.reason,
        )
        for row in connection.execute(_LIST)
    ]


# For workers

Pauses = dict[str, float | None]
"""For each paused queue the seconds until the pause ends, or ``None`` if it ends by hand."""


def _seconds(time: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.extract("epoch", time)


def pauses_as_text() -> sa.ScalarSelect[str]:
    """Return the query for the pauses as JSON text, for :func:`read_pauses`. NULL without pauses."""
    ends_in = sa.case(
        (
            sa.func.isfinite(paused_queues.c.paused_until),
            sa.cast(_seconds(paused_queues.c.paused_until) - _seconds(sa.func.now()), sa.Double()),
        )
    )
    pauses = sa.func.json_object_agg(paused_queues.c.queue_name, ends_in)
    return sa.select(sa.cast(pauses, sa.Text())).where(lasts()).scalar_subquery()


def read_pauses(text: str | None) -> Pauses:
    """Return the pauses of a text of :func:`pauses_as_text`."""
    return {} if text is None else json.loads(text)


_TEXT = plain(sa.select(pauses_as_text().label("pauses")))


def get_pauses(connection: sa.Connection) -> Pauses:
    """Return the queues that are paused now, and for how long."""
    return read_pauses(connection.execute(_TEXT).scalar_one())


_LIMIT: sa.BindParameter[int] = sa.bindparam("limit", type_=sa.Integer())


def _unstarted(holds: sa.ColumnElement[bool], *order: sa.ColumnElement[Any], name: str) -> sa.Select[Any]:
    """Return the query for the jobs of a queue that hold something and have not started.

    The order is that of the index of holders. The index of ready jobs would lead through all jobs of the queue, so
    nothing here says in its words that the jobs are ready.
    """
    found = (
        sa.select(jobs.c.id)
        .where(
            holds,
            jobs.c.status == TODO,
            jobs.c.queue_name == sa.bindparam("queue", type_=sa.Text()),
            is_not_set_aside(jobs.c.id),
        )
        .order_by(*order)
        .limit(_LIMIT)
        .with_for_update(key_share=True, skip_locked=True)
        .cte(name)
    )
    return sa.select(found.c.id)


def _holders() -> sa.Select[Any]:
    holders = sa.union_all(
        _unstarted(holds_lock(), jobs.c.lock, name="lock_holders"),
        _unstarted(
            sa.and_(holds_slot(), jobs.c.lock.is_(None)), jobs.c.limit_name, jobs.c.limit_key, name="slot_holders"
        ),
    ).subquery("holders")
    return sa.select(holders.c.id).limit(_LIMIT)


_HOLDERS = _holders()
_PUT_BACK = sa.update(jobs).where(is_one_of(jobs.c.id, _HOLDERS)).values(readiness=UNDECIDED).returning(jobs.c.id)


def free_locks_of_paused(
    connection: sa.Connection, *, queue: str, limit: int = 1000, set_aside: Sequence[int] = ()
) -> list[int]:
    """Take locks and slots from some jobs of a paused queue that have not started. Return the ids of the jobs.

    A worker that has not heard of the pause may give such a job a lock again. So each worker calls this after it has
    heard, until no job is left.
    """
    parameters = {"queue": queue, "limit": limit, "set_aside": list(set_aside)}
    return list(connection.execute(_PUT_BACK, parameters).scalars())


@finds_first_row_of(free_locks_of_paused)
def first_holder_of_paused(connection: sa.Connection, *, queue: str, set_aside: Sequence[int] = ()) -> int | None:
    """Return the id of the job whose lock :func:`free_locks_of_paused` would take first, or ``None``."""
    parameters = {"queue": queue, "limit": 1, "set_aside": list(set_aside)}
    return connection.execute(_HOLDERS, parameters).scalars().first()
