"""The load for the first page: what waits, what runs, what ended within the last hour."""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa

from procrastinate.core.inspection.bounds import Count, bounded_count, first_rows, load, moment, to_count
from procrastinate.core.inspection.records import Minute, Overview
from procrastinate.core.inspection.states import WALKS
from procrastinate.core.inspection.workers import alive_and_silent, is_alive
from procrastinate.core.job_states import ENDED, WAITING, JobState
from procrastinate.core.operation_marks import may_lag
from procrastinate.core.statistics import MINUTE, add_up
from procrastinate.core.tables import DOING, due_at, is_upcoming, jobs, statistics, workers

COUNTED = 10_000
"""Maximum of a count. Beyond it, a page says "10,000+"."""
CHARTED = 10_000
"""Maximum number of ended jobs that the minutes of the chart are made of, for each status."""
_HOUR = datetime.timedelta(hours=1)


def _count(state: JobState) -> sa.ScalarSelect[int]:
    return bounded_count(WALKS[state].select(sa.literal_column("1")), COUNTED)


def _has_lively_worker() -> sa.ColumnElement[bool]:
    return sa.exists().where(workers.c.id == jobs.c.worker_id, is_alive())


_OVERDUE = is_upcoming() & (due_at() < sa.func.now() - sa.literal_column("interval '15 seconds'"))
_COUNTS: sa.Select[Any] = sa.select(  # type: ignore[assignment]
    *[_count(state).label(state.value) for state in (*WAITING, JobState.RUNNING)],
    bounded_count(
        sa.select(sa.literal_column("1")).where(jobs.c.status == DOING, ~_has_lively_worker()), COUNTED
    ).label("stalled"),
    bounded_count(sa.select(sa.literal_column("1")).where(_OVERDUE).order_by(due_at()), COUNTED).label("overdue"),
    sa.select(moment(jobs.c.scheduled_at))
    .where(_OVERDUE, due_at() > sa.literal_column("'-infinity'::timestamptz"))
    .order_by(due_at())
    .limit(sa.literal_column("1"))
    .scalar_subquery()
    .label("oldest_overdue_at"),
)


def _minute_of(time: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return the start of the minute of a time. ``date_trunc`` looks up the time zone for each row and takes longer."""
    return sa.func.date_bin(sa.literal_column("'1 min'::interval"), time, sa.literal_column("'epoch'::timestamptz"))


def _ended_by_minute(state: JobState) -> Any:
    """Return the query for the last jobs that ended in a state within the hour, by minute."""
    walk = WALKS[state]
    ended = first_rows(
        sa.select(jobs.c.finished_at)
        .where(*walk.conditions, jobs.c.finished_at > sa.func.now() - sa.literal(_HOUR, sa.Interval()))
        .where(jobs.c.finished_at <= sa.func.now())
        .order_by(jobs.c.finished_at.desc()),
        CHARTED + 1,
        f"ended_{state.value}",
    )
    minute = _minute_of(ended.c.finished_at)
    query: Any = sa.select(
        sa.literal_column(f"'{state.value}'").label("state"),
        moment(minute).label("minute"),
        sa.func.count().label("number"),
    ).group_by(minute)
    return query


_ENDED = sa.union_all(*map(_ended_by_minute, ENDED))


_TOLD: Any = (
    sa.select(
        statistics.c.outcome,
        moment(statistics.c.at).label("minute"),
        add_up(statistics.c.count).label("number"),
    )
    .where(
        statistics.c.seconds == sa.literal_column(str(MINUTE)),
        statistics.c.at > sa.func.now() - sa.literal(_HOUR, sa.Interval()),
        statistics.c.outcome.in_([sa.literal_column(f"'{state.value}'") for state in ENDED]),
    )
    .group_by(statistics.c.outcome, statistics.c.at)
)


@may_lag
@load
def load_overview(connection: sa.Connection, now: datetime.datetime) -> Overview:
    """Return the counts and the last hour of the whole queue."""
    counts = connection.execute(_COUNTS).one()
    alive, silent = alive_and_silent(connection)
    by_minute = {
        (JobState(row.state), row.minute): row.number for row in connection.execute(_ENDED) if row.minute is not None
    }
    ended = {state: _total(by_minute, state) for state in ENDED}
    since = _first_whole_minute(by_minute, ended, now)
    for row in connection.execute(_TOLD):
        # Workers may delete jobs at their end, which their statistics count. Programs end jobs, too.
        place = (JobState(row.outcome), row.minute)
        by_minute[place] = max(by_minute.get(place, 0), row.number)
    return Overview(
        now=now,
        waiting={state: to_count(counts._mapping[state.value], COUNTED) for state in WAITING},
        running=to_count(counts.running, COUNTED),
        ended=ended,
        minutes=tuple(_minutes(by_minute, now)),
        minutes_since=since,
        stalled=to_count(counts.stalled, COUNTED),
        overdue=to_count(counts.overdue, COUNTED),
        oldest_overdue_at=counts.oldest_overdue_at,
        workers_alive=alive,
        workers_silent=silent,
    )


_ByMinute = dict[tuple[JobState, datetime.datetime], int]


def _total(by_minute: _ByMinute, state: JobState) -> Count:
    return to_count(sum(number for (one, _), number in by_minute.items() if one is state), CHARTED)


def _this_minute(now: datetime.datetime) -> datetime.datetime:
    return now.replace(second=0, microsecond=0)


def _minutes(by_minute: _ByMinute, now: datetime.datetime) -> list[Minute]:
    first = _this_minute(now) - _HOUR
    return [_minute(by_minute, first + datetime.timedelta(minutes=number)) for number in range(1, 61)]


def _minute(by_minute: _ByMinute, at: datetime.datetime) -> Minute:
    def number(state: JobState) -> int:
        return by_minute.get((state, at), 0)

    other = number(JobState.CANCELLED) + number(JobState.ABORTED)
    return Minute(at=at, succeeded=number(JobState.SUCCEEDED), failed=number(JobState.FAILED), other=other)


def _first_whole_minute(
    by_minute: _ByMinute, ended: dict[JobState, Count], now: datetime.datetime
) -> datetime.datetime:
    """Return the first minute of the hour that no limit has cut."""
    cut = [min(at for one, at in by_minute if one is state) for state, count in ended.items() if count.is_more]
    return max(cut) + datetime.timedelta(minutes=1) if cut else _this_minute(now) - _HOUR
