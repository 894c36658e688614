"""The load of the periodic tasks and their ticks."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import array_param
from procrastinate.core.criteria import is_possible
from procrastinate.core.inspection.bounds import Moment, load
from procrastinate.core.inspection.records import Schedule, Schedules, Tick
from procrastinate.core.operation_marks import may_lag
from procrastinate.core.tables import HAS_KNOWN_STATUS, jobs, periodic_defers

_SHOWN = 200
_TICKS = 5
_defers = periodic_defers.c


def _first_schedule(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return (
        sa.select(_defers.task_name, _defers.periodic_id)
        .where(*conditions)
        .order_by(_defers.task_name, _defers.periodic_id)
        .limit(sa.literal_column("1"))
    )


def _schedules() -> sa.Select[Any]:
    """Return the query for the schedules that left ticks. It jumps along the index from one to the next."""
    first = _first_schedule().subquery("first")
    found = sa.select(first.c.task_name, first.c.periodic_id).cte("found", recursive=True)
    is_next = sa.tuple_(_defers.task_name, _defers.periodic_id) > sa.tuple_(found.c.task_name, found.c.periodic_id)
    following = _first_schedule(is_next).lateral("following")
    found = found.union_all(
        sa.select(following.c.task_name, following.c.periodic_id).select_from(found.join(following, sa.true()))
    )
    return sa.select(found).limit(sa.literal_column(str(_SHOWN)))


_SCHEDULES = _schedules()


def _ticks() -> sa.Select[Any]:
    names = (
        sa.func.unnest(array_param("task_names", sa.Text()), array_param("periodic_ids", sa.Text()))
        .table_valued("task_name", "periodic_id", name="schedule")
        .render_derived()
    )
    last = (
        sa.select(_defers.defer_timestamp, _defers.job_id)
        .where(
            _defers.task_name == names.c.task_name,
            _defers.periodic_id == names.c.periodic_id,
            _defers.defer_timestamp.is_not(None),
        )
        .order_by(_defers.defer_timestamp.desc())
        .limit(sa.literal_column(str(_TICKS)))
        .lateral("last")
    )
    return sa.select(
        names.c.task_name,
        names.c.periodic_id,
        sa.type_coerce(sa.func.least(last.c.defer_timestamp, 10**12) * 1_000_000, Moment()).label("at"),
        last.c.job_id,
        jobs.c.status,
    ).select_from(names.join(last, sa.true()).outerjoin(jobs, sa.and_(jobs.c.id == last.c.job_id, HAS_KNOWN_STATUS)))


_LAST_TICKS = _ticks()


@may_lag
@load
def load_periodic(
    connection: sa.Connection, now: datetime.datetime, known: Collection[tuple[str, str]] = ()
) -> Schedules:
    """Return the last five ticks of each periodic task.

    Parameters
    ----------
    known:
        Names and periodic ids of schedules to return in any case.
    """
    stored = {(row.task_name, row.periodic_id) for row in connection.execute(_SCHEDULES)}
    names = sorted({*stored, *(pair for pair in known if all(map(is_possible, pair)))})
    ticks: dict[tuple[str, str], list[Tick]] = {name: [] for name in names}
    parameters = {"task_names": [task for task, _ in names], "periodic_ids": [periodic for _, periodic in names]}
    for row in connection.execute(_LAST_TICKS, parameters):
        ticks[row.task_name, row.periodic_id].append(Tick(at=row.at, job_id=row.job_id, status=row.status))
    return Schedules(now=now, schedules=tuple(_schedule(*name, ticks[name]) for name in names))


def _schedule(task_name: str, periodic_id: str, ticks: list[Tick]) -> Schedule:
    newest_first = sorted(ticks, key=lambda tick: (tick.at is not None, tick.at), reverse=True)
    return Schedule(task_name=task_name, periodic_id=periodic_id, ticks=tuple(newest_first))
