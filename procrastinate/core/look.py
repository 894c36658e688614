"""The operations that tell whether a worker has anything to do at all, and what it has to sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import each_of, write_array
from procrastinate.core.dead_workers import is_orphaned
from procrastinate.core.operation_marks import plain, prepared
from procrastinate.core.pauses import is_open
from procrastinate.core.promote import has_arrivals
from procrastinate.core.served_queues import may_have_slot
from procrastinate.core.tables import (
    DOING,
    TODO,
    due_at,
    hold_offs,
    is_in_line,
    is_parked,
    is_ready,
    is_ready_in_any_queue,
    is_upcoming,
    jobs,
    starts,
    waits_for_others,
    workflows,
)


def _first(condition: sa.ColumnElement[bool], *order: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Select whether there is a first job in this order, which is that of an index. Without an order PostgreSQL may
    read the table, because it expects to meet such a job soon.
    """
    return sa.select(jobs.c.id).where(condition).order_by(*order).limit(1).scalar_subquery().is_not(None)


_BY_PRIORITY = (jobs.c.priority.desc(), jobs.c.id)


def _ready_queues() -> sa.Select[Any]:
    """Return the query for those of the given queues that have ready jobs. It probes the index once for each queue."""
    queue = each_of("queues", sa.Text(), "name", name="queue")
    of_queue = sa.select(jobs.c.id).where(is_ready(), jobs.c.queue_name == queue.c.name).order_by(*_BY_PRIORITY)
    return sa.select(queue.c.name).select_from(queue.join(of_queue.limit(1).lateral("first"), sa.true()))


def _is_ready_in_queues() -> sa.ColumnElement[bool]:
    return _ready_queues().limit(1).scalar_subquery().is_not(None)


_OF_OTHERS = sa.or_(
    _first(jobs.c.status == DOING, jobs.c.worker_id),
    _first(sa.and_(is_upcoming(), due_at() <= sa.func.now()), due_at(), *_BY_PRIORITY),
    _first(is_parked(), jobs.c.lock, *_BY_PRIORITY),
    _first(is_in_line(), jobs.c.limit_name, jobs.c.limit_key, *_BY_PRIORITY),
    has_arrivals(),
)
_IN_ANY_QUEUE = plain(sa.select(sa.or_(_first(is_ready_in_any_queue(), *_BY_PRIORITY), _OF_OTHERS).label("is_there")))


def _waiting_queues() -> sa.Select[Any]:
    """Return the query for those of the given queues that have waiting jobs. It walks indexes of waiting jobs only, and
    that of the jobs of workflows.
    """
    queue = each_of("queues", sa.Text(), "name", name="queue")
    is_its = jobs.c.queue_name == queue.c.name
    is_step = sa.and_(jobs.c.workflow_id.is_not(None), jobs.c.status == TODO)
    return sa.select(queue.c.name).where(
        sa.or_(
            _first(sa.and_(is_ready(), is_its), *_BY_PRIORITY),
            _first(sa.and_(is_upcoming(), is_its), due_at(), *_BY_PRIORITY),
            _first(sa.and_(is_parked(), is_its), jobs.c.lock, *_BY_PRIORITY),
            _first(sa.and_(is_in_line(), is_its), jobs.c.limit_name, jobs.c.limit_key, *_BY_PRIORITY),
            _first(sa.and_(is_step, is_its), jobs.c.workflow_id, jobs.c.status),
        )
    )


_WAITING_QUEUES = plain(_waiting_queues())
_IN_QUEUES = plain(sa.select(sa.or_(_is_ready_in_queues(), _OF_OTHERS).label("is_there")))


def has_work(connection: sa.Connection, *, queues: Sequence[str] | None) -> bool:
    """Return whether there is a job that a worker of these queues (``None``: of all) may have to do something about.

    A job that runs may be one that its worker left behind, and one that is parked or in line may wait for nothing.
    Workers look after those of every queue, and after the steps of workflows.
    """
    if queues is None:
        return bool(connection.execute(_IN_ANY_QUEUE).scalar_one())
    return bool(connection.execute(_IN_QUEUES, {"queues": write_array(queues, sa.Text())}).scalar_one())


def list_waiting_queues(connection: sa.Connection, *, queues: Sequence[str]) -> list[str]:
    """Return those of the queues that have waiting jobs, whatever the jobs wait for."""
    found = connection.execute(_WAITING_QUEUES, {"queues": write_array(queues, sa.Text())})
    return [row.name for row in found]


_HAS_PARKED = plain(sa.select(_first(is_parked(), jobs.c.lock, *_BY_PRIORITY).label("has_parked")))


def has_parked_jobs(connection: sa.Connection) -> bool:
    """Return whether there are parked jobs."""
    return bool(connection.execute(_HAS_PARKED).scalar_one())


@dataclasses.dataclass(frozen=True, slots=True)
class Unswept:
    """What there is to sweep.

    Attributes
    ----------
    lines:
        Whether there are jobs in line of a limit.
    workflows:
        Whether there are workflows, open or ended, or steps that wait.
    orphaned:
        Whether there are running jobs whose worker is not registered.
    parked:
        Whether there are parked jobs.
    resumed:
        Whether jobs without a lock are parked for no reason any more. Their queue is open, and if they have a limit, a
        worker serves it. Only the first thousand parked jobs count.
    starts:
        Whether there are starts that rates count, or hold-offs.
    """

    lines: bool
    workflows: bool
    orphaned: bool
    parked: bool
    resumed: bool
    starts: bool


def _is_resumed() -> sa.ColumnElement[bool]:
    columns = (jobs.c.id, jobs.c.queue_name, jobs.c.limit_name)
    parked = sa.select(*columns).where(is_parked(), jobs.c.lock.is_(None)).order_by(*_BY_PRIORITY)
    first = parked.limit(sa.literal_column("1000")).subquery("first_parked")
    return sa.select(first.c.id).where(is_open(first), may_have_slot(first)).exists()


def _has_starts() -> sa.ColumnElement[bool]:
    """Select whether limits have left rows. The order is that of an index, at whose beginning no dead rows gather."""
    start = sa.select(starts.c.id).order_by(starts.c.limit_name, starts.c.at).limit(1)
    hold_off = sa.select(hold_offs.c.limit_name).order_by(hold_offs.c.limit_name, hold_offs.c.limit_key).limit(1)
    return sa.or_(start.scalar_subquery().is_not(None), hold_off.scalar_subquery().is_not(None))


_UNSWEPT = prepared(
    sa.select(
        _first(is_in_line(), jobs.c.limit_name, jobs.c.limit_key, *_BY_PRIORITY).label("lines"),
        sa.or_(
            sa.select(workflows.c.id).limit(1).scalar_subquery().is_not(None),
            _first(waits_for_others(), jobs.c.id),
        ).label("workflows"),
        sa.select(jobs.c.id).where(jobs.c.status == DOING, is_orphaned(jobs)).exists().label("orphaned"),
        _first(is_parked(), jobs.c.lock, *_BY_PRIORITY).label("parked"),
        _is_resumed().label("resumed"),
        _has_starts().label("starts"),
    )
)


def find_unswept(connection: sa.Connection) -> Unswept:
    """Return what a worker has to sweep. A watcher asks at each look, and usually needs nothing else."""
    return Unswept(*map(bool, connection.execute(_UNSWEPT).one()))
