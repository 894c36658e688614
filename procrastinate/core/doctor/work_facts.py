"""What is read of the work: ready jobs that wait, jobs without a worker, and how old the history is."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import each_of
from procrastinate.core.dead_workers import LEFT_BEHIND
from procrastinate.core.inspection.bounds import bounded_count, first_rows, moment
from procrastinate.core.inspection.ready_since import RowVersion, newest_event_of, version_age
from procrastinate.core.inspection.states import READY_OF_QUEUE, WALKS
from procrastinate.core.inspection.workers import is_alive
from procrastinate.core.job_states import ENDED, WAITING
from procrastinate.core.pauses import lasts
from procrastinate.core.tables import DOING, jobs, paused_queues, workers
from procrastinate.core.tables import status_literal as literal
from procrastinate.core.workflow_rows import SIGNAL_TASK

COUNTED = 10_000
LOOKED_AT = 2_000
"""Number of waiting jobs of each state whose task is looked at."""
_SAMPLED = 20
"""Number of ready jobs of a queue that are looked at."""

_HAS_LIVE_WORKER = sa.exists().where(workers.c.id == jobs.c.worker_id, is_alive())
_ORPHANED: sa.Select[Any] = sa.select(
    bounded_count(
        sa.select(sa.literal_column("1")).where(
            jobs.c.status == DOING,
            jobs.c.worker_id.is_distinct_from(sa.literal_column(str(LEFT_BEHIND))),
            ~_HAS_LIVE_WORKER,
        ),
        COUNTED,
    )
)
_LEFT_BEHIND: sa.Select[Any] = sa.select(
    bounded_count(
        sa.select(sa.literal_column("1")).where(
            jobs.c.status == DOING, jobs.c.worker_id == sa.literal_column(str(LEFT_BEHIND))
        ),
        COUNTED,
    )
)
_PAUSES = (
    sa.select(
        paused_queues.c.queue_name,
        paused_queues.c.paused_by,
        paused_queues.c.reason,
        moment(paused_queues.c.paused_at).label("since"),
        moment(paused_queues.c.paused_until).label("until"),
    )
    .where(lasts())
    .order_by(paused_queues.c.queue_name)
    .limit(sa.literal_column("100"))
)


def count_orphaned(connection: sa.Connection) -> int:
    """Return the number of running jobs whose worker is gone or silent, at most 10,001."""
    return int(connection.execute(_ORPHANED).scalar_one())


def count_left_behind(connection: sa.Connection) -> int:
    """Return the number of running jobs that Procrastinate 3.x has left behind, at most 10,001."""
    return int(connection.execute(_LEFT_BEHIND).scalar_one())


_waiting = sa.union_all(
    *(
        sa.select(first_rows(WALKS[state].select(jobs.c.id, jobs.c.queue_name, jobs.c.task_name), LOOKED_AT, state))
        for state in WAITING
    )
).subquery("waiting")
_WAITING_TASKS: sa.Select[Any] = (
    sa.select(
        _waiting.c.queue_name,
        _waiting.c.task_name,
        sa.func.count().label("count"),
        sa.func.min(_waiting.c.id).label("first_job_id"),
    )
    .where(_waiting.c.task_name != SIGNAL_TASK)
    .group_by(_waiting.c.queue_name, _waiting.c.task_name)
    .limit(sa.literal_column("2000"))
)


def list_waiting_tasks(connection: sa.Connection) -> list[Any]:
    """Return the tasks of the first 2,000 waiting jobs of each state, with the queue, the number and the first job."""
    return list(connection.execute(_WAITING_TASKS))


def list_pauses(connection: sa.Connection) -> list[Any]:
    """Return the pauses of queues that last."""
    return list(connection.execute(_PAUSES))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReadyJob:
    """A ready job at the head of its queue."""

    queue_name: str
    id: int
    priority: int
    version: RowVersion


def _heads() -> sa.Select[Any]:
    """Return the query for the ready jobs at the head of each queue, and for the versions of their rows."""
    name = each_of("names", sa.Text(), "name", name="queue")
    columns = (jobs.c.id, jobs.c.priority, jobs.c.scheduled_at, version_age(jobs).label("age"))
    head = (
        READY_OF_QUEUE.select(*columns)
        .where(jobs.c.queue_name == name.c.name)
        .correlate(name)
        .limit(sa.literal_column(str(_SAMPLED)))
        .lateral("head")
    )
    scheduled_at = moment(head.c.scheduled_at).label("scheduled_at")
    ready = sa.select(name.c.name, head.c.id, head.c.priority, head.c.age, scheduled_at, *newest_event_of(head.c.id))
    return ready.select_from(name.join(head, sa.true()))


_HEADS = _heads()


def list_heads(connection: sa.Connection, queues: list[str]) -> list[ReadyJob]:
    """Return the ready jobs at the head of each queue."""
    return [
        ReadyJob(
            queue_name=row.name,
            id=row.id,
            priority=row.priority,
            version=RowVersion(
                age=row.age, event_at=row.event_at, event_age=row.event_age, scheduled_at=row.scheduled_at
            ),
        )
        for row in connection.execute(_HEADS, {"names": queues})
    ]


def _oldest_end() -> sa.Select[Any]:
    oldest = [
        sa.select(moment(jobs.c.finished_at).label("at"))
        .where(jobs.c.status == literal(status), jobs.c.finished_at.is_not(None))
        .order_by(jobs.c.finished_at)
        .limit(sa.literal_column("1"))
        .subquery(f"oldest_{status.value}")
        for status in ENDED.values()
    ]
    return sa.union_all(*(sa.select(one.c.at) for one in oldest))  # type: ignore[return-value]


_OLDEST_END = _oldest_end()


def read_oldest_end(connection: sa.Connection) -> datetime.datetime | None:
    """Return when the oldest job ended that the table has."""
    return min(filter(None, connection.execute(_OLDEST_END).scalars()), default=None)
