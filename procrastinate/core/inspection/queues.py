"""The load of the queues."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import each_of
from procrastinate.core.criteria import only_possible
from procrastinate.core.enums import BECAME_READY
from procrastinate.core.fetch import ready_queue_names
from procrastinate.core.inspection.bounds import Count, first_rows, load, moment, to_count
from procrastinate.core.inspection.records import Paused, Queues, QueueState
from procrastinate.core.inspection.states import READY_OF_QUEUE, WALKS
from procrastinate.core.inspection.workers import is_alive
from procrastinate.core.job_states import WAITING, JobState
from procrastinate.core.operation_marks import may_lag
from procrastinate.core.pauses import lasts
from procrastinate.core.tables import event_literal, events, jobs, paused_queues, workers

_SHOWN = 200
_COUNTED = 100_000
"""Maximum number of ready jobs that are counted for all queues together."""
_LONGEST_COUNT = 10_000
_SAMPLED = 10_000
"""Maximum number of jobs that are counted for all queues together, of each state but "ready"."""

_names = ready_queue_names()
_READY_QUEUES = sa.select(_names.c.name).where(_names.c.name.is_not(None)).limit(sa.literal_column(str(_SHOWN + 1)))


def _by_queue(state: JobState) -> sa.Select[Any]:
    rows = first_rows(WALKS[state].select(jobs.c.queue_name), _SAMPLED + 1, f"first_{state.value}")
    return sa.select(
        sa.literal_column(f"'{state.value}'").label("state"), rows.c.queue_name, sa.func.count().label("number")
    ).group_by(rows.c.queue_name)


_NOT_READY: tuple[JobState, ...] = (*(state for state in WAITING if state is not JobState.READY), JobState.RUNNING)
_BY_QUEUE = sa.union_all(*map(_by_queue, _NOT_READY))


def _ready_jobs(limit: int) -> sa.Select[Any]:
    """Return the query for the number of ready jobs of each queue, and for the start of the oldest one's wait."""
    name = each_of("names", sa.Text(), "name", name="queue")
    first = READY_OF_QUEUE.select(jobs.c.id).where(jobs.c.queue_name == name.c.name).correlate(name)
    counted = first_rows(first, limit + 1, "counted")
    ready = (
        sa.select(sa.func.count().label("number"), sa.func.min(counted.c.id).label("oldest"))
        .select_from(counted)
        .correlate(name)
        .lateral("ready")
    )
    since = (
        sa.select(sa.func.max(events.c.at))
        .where(
            events.c.job_id == ready.c.oldest,
            events.c.at <= sa.func.now(),
            events.c.type.in_([event_literal(type_) for type_ in BECAME_READY]),
        )
        .scalar_subquery()
    )
    return sa.select(name.c.name, ready.c.number, moment(since).label("oldest_ready_at")).select_from(
        name.join(ready, sa.true())
    )


_PAUSES = sa.select(
    paused_queues.c.queue_name,
    moment(paused_queues.c.paused_at).label("since"),
    moment(paused_queues.c.paused_until).label("until"),
    paused_queues.c.paused_by.label("by"),
    paused_queues.c.reason,
).where(lasts())
# Workers of the same queues count as one row.
_SERVING = (
    sa.select(workers.c.queues, sa.func.count().label("number"), sa.func.sum(workers.c.concurrency).label("slots"))
    .where(is_alive())
    .group_by(workers.c.queues)
)


@may_lag
@load
def load_queues(connection: sa.Connection, now: datetime.datetime, known: Collection[str] = ()) -> Queues:
    """Return the queues that have unfinished jobs.

    Parameters
    ----------
    known:
        Names of queues to return in any case.
    """
    ready_names = list(connection.execute(_READY_QUEUES).scalars())
    others = connection.execute(_BY_QUEUE).all()
    pauses = {row.queue_name: _pause(row) for row in connection.execute(_PAUSES)}
    serving = connection.execute(_SERVING).all()
    with_jobs = {*ready_names, *(row.queue_name for row in others)}
    # What the caller asks for comes first, and a pause of a queue without jobs last.
    names = list(dict.fromkeys(name for some in (only_possible(known), with_jobs, pauses) for name in sorted(some)))
    shown = sorted(names[:_SHOWN])
    limit = min(_LONGEST_COUNT, _COUNTED // max(len(shown), 1))
    ready = {row.name: row for row in connection.execute(_ready_jobs(limit), {"names": shown})}
    numbers = {(row.state, row.queue_name): row.number for row in others}
    is_cut: dict[JobState, bool] = {
        state: sum(number for (one, _), number in numbers.items() if one == state) > _SAMPLED for state in _NOT_READY
    }

    def count(state: JobState, name: str) -> Count:
        return Count(number=numbers.get((state.value, name), 0), is_more=is_cut[state])

    queues = tuple(
        QueueState(
            name=name,
            ready=to_count(ready[name].number, limit),
            scheduled=count(JobState.SCHEDULED, name),
            blocked=count(JobState.BLOCKED, name),
            limited=count(JobState.LIMITED, name),
            waiting_for_steps=count(JobState.WAITING_FOR_STEPS, name),
            running=count(JobState.RUNNING, name),
            oldest_ready_at=ready[name].oldest_ready_at,
            pause=pauses.get(name),
            served_by=sum(row.number for row in serving if _serves(row, name)),
            slots=sum(row.slots or 0 for row in serving if _serves(row, name)),
        )
        for name in shown
    )
    return Queues(
        now=now,
        queues=queues,
        is_more=len(names) > _SHOWN,
        silent_on_queues=sum(row.number for row in serving if row.queues is None),
    )


def _serves(row: Any, name: str) -> bool:
    """Return whether workers fetch from a queue. An empty list of queues means all."""
    return row.queues is not None and (not row.queues or name in row.queues)


def _pause(row: Any) -> Paused:
    return Paused(since=row.since, until=row.until, by=row.by, reason=row.reason)
