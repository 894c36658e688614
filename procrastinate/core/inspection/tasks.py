"""The load of the tasks."""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa

from procrastinate.core.enums import EventType
from procrastinate.core.inspection.bounds import Count, first_rows, load, moment, to_count
from procrastinate.core.inspection.records import Tasks, TaskState
from procrastinate.core.inspection.states import WALKS
from procrastinate.core.inspection.task_hours import read_task_hours
from procrastinate.core.job_states import ENDED, WAITING, JobState
from procrastinate.core.operation_marks import may_lag
from procrastinate.core.tables import event_literal, events, jobs

_LOOKED_AT = 1_000
"""Number of the last jobs of each end whose times are read."""
_SAMPLED = 10_000
"""Maximum number of waiting and running jobs that are counted for all tasks together, of each state."""


def _last_ended(state: JobState) -> sa.Select[Any]:
    rows = first_rows(
        WALKS[state].select(jobs.c.id, jobs.c.task_name, jobs.c.attempts, jobs.c.finished_at),
        _LOOKED_AT,
        f"last_{state.value}",
    )
    return sa.select(rows, sa.literal_column(f"'{state.value}'").label("state"))


_ended = sa.union_all(*map(_last_ended, ENDED)).cte("ended")
_started = (
    sa.select(sa.func.max(events.c.at).label("at"))
    .where(events.c.job_id == _ended.c.id, events.c.type == event_literal(EventType.STARTED))
    .lateral("started")
)
_SECONDS: sa.ColumnElement[float] = sa.cast(sa.extract("epoch", _ended.c.finished_at - _started.c.at), sa.Double())
_IS_RUN = _ended.c.state == JobState.SUCCEEDED.value

_RETRIES = sa.func.greatest(
    # A cancelled job was waiting, so each of its runs led to a retry.
    sa.case(
        (_ended.c.state == JobState.CANCELLED.value, sa.cast(_ended.c.attempts, sa.BigInteger)),
        else_=sa.cast(_ended.c.attempts, sa.BigInteger) - 1,
    ),
    0,
)
"""The number of runs of a job that led to another one. Metrics count them, too, and not the jobs."""


def _number(*states: JobState) -> sa.ColumnElement[int]:
    return sa.func.count().filter(_ended.c.state.in_([sa.literal_column(f"'{state.value}'") for state in states]))


_BY_TASK = (
    sa.select(
        _ended.c.task_name.label("name"),
        _number(JobState.SUCCEEDED).label("succeeded"),
        _number(JobState.FAILED).label("failed"),
        _number(JobState.CANCELLED, JobState.ABORTED).label("other"),
        sa.cast(sa.func.coalesce(sa.func.sum(_RETRIES), 0), sa.BigInteger).label("retried"),
        sa.func.percentile_cont(sa.literal_column("0.5"))
        .within_group(_SECONDS)
        .filter(_IS_RUN)
        .label("median_seconds"),
        sa.func.max(_SECONDS).filter(_IS_RUN).label("slowest_seconds"),
        moment(sa.func.max(_ended.c.finished_at)).label("last_ended_at"),
        moment(sa.func.min(_ended.c.finished_at)).label("first_ended_at"),
    )
    .select_from(_ended.join(_started, sa.true()))
    .where(sa.func.isfinite(_ended.c.finished_at))
    .group_by(_ended.c.task_name)
)

_NUMBERS = ("succeeded", "failed", "other", "retried")
_TIMES = ("median_seconds", "slowest_seconds", "last_ended_at")


def _by_task(state: JobState) -> sa.Select[Any]:
    rows = first_rows(WALKS[state].select(jobs.c.task_name), _SAMPLED + 1, f"first_{state.value}")
    return sa.select(
        sa.literal_column(f"'{state.value}'").label("state"), rows.c.task_name, sa.func.count().label("number")
    ).group_by(rows.c.task_name)


_UNFINISHED = sa.union_all(*map(_by_task, (*WAITING, JobState.RUNNING)))


@may_lag
@load
def load_tasks(connection: sa.Connection, now: datetime.datetime) -> Tasks:
    """Return the tasks that have unfinished jobs, or are among the last thousand that ended in each status."""
    ended = {row.name: row for row in connection.execute(_BY_TASK)}
    hours = read_task_hours(connection)
    unfinished: dict[str, dict[JobState, int]] = {}
    for row in connection.execute(_UNFINISHED):
        unfinished.setdefault(row.task_name, {})[JobState(row.state)] = row.number
    is_cut = {state: sum(of.get(state, 0) for of in unfinished.values()) > _SAMPLED for state in JobState}

    def count(name: str, *states: JobState) -> Count:
        of = unfinished.get(name, {})
        return Count(number=sum(of.get(state, 0) for state in states), is_more=any(is_cut[state] for state in states))

    tasks = tuple(
        TaskState(
            name=name,
            waiting=count(name, *WAITING),
            running=count(name, JobState.RUNNING),
            **_of_ended(ended.get(name)),
            hour=hours.get(name),
        )
        for name in sorted({*ended, *unfinished, *hours})
    )
    looked_at = sum(row.succeeded + row.failed + row.other for row in ended.values())
    since = min((row.first_ended_at for row in ended.values() if row.first_ended_at is not None), default=None)
    return Tasks(now=now, since=since, looked_at=to_count(looked_at, _LOOKED_AT * len(ENDED)), tasks=tasks)


def _of_ended(row: Any) -> dict[str, Any]:
    if row is None:
        return {**dict.fromkeys(_NUMBERS, 0), **dict.fromkeys(_TIMES)}
    return {name: row._mapping[name] for name in (*_NUMBERS, *_TIMES)}
