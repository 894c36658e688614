"""Since when a job is ready, and whether its queue moves.

No column says when a job became ready. The version of its row does, in a way. PostgreSQL numbers transactions in order,
and each version of a row has the number of the transaction that wrote it. If an event or a heartbeat has this number or
a higher one, the row has been as it is since the time of that event or heartbeat at the latest.
"""

from __future__ import annotations

import bisect
import dataclasses
import datetime
import itertools
from typing import Any

import sqlalchemy as sa

from procrastinate.core.enums import EventType
from procrastinate.core.inspection.bounds import first_rows, moment
from procrastinate.core.inspection.facts import POLL, JobFacts
from procrastinate.core.tables import event_literal, events, jobs, workers

_NEWEST_EVENTS = 500
_MOST_WORKERS = 1_000


def version_age(table: sa.Table) -> sa.ColumnElement[int]:
    """Return the number of transactions since a row of the table was written."""
    return sa.func.age(sa.literal_column(f"{table.name}.xmin"), type_=sa.Integer())


def newest_event_of(job_id: sa.ColumnElement[int]) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
    """Return the time of the newest event of a job, and the age of its version, as subqueries."""
    own = (events.c.job_id == job_id, events.c.at <= sa.func.now())
    at = sa.select(sa.func.max(events.c.at)).where(*own).scalar_subquery()
    age = sa.select(sa.func.min(version_age(events))).where(*own).scalar_subquery()
    return moment(at).label("event_at"), age.label("event_age")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RowVersion:
    """What is known of the version of a job's row."""

    age: int
    """The number of transactions since the row was written."""
    event_at: datetime.datetime | None
    event_age: int | None
    """The number of transactions since the newest event of the job was written."""
    scheduled_at: datetime.datetime | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A job that was started since the last poll."""

    queue_name: str
    priority: int
    job_id: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Movement:
    """The newest events and heartbeats."""

    ages: tuple[int, ...]
    """Ages of versions, from the newest."""
    earliest: tuple[datetime.datetime, ...]
    """For each of these ages, the earliest time among the versions that are no older."""
    ends: dict[int, datetime.datetime]
    """The times of ends of jobs, by the age of the version. A transaction that ends a job hands over its lock."""
    starts: tuple[Start, ...]

    def ready_since(self, version: RowVersion) -> datetime.datetime | None:
        """Return a time since when a ready job is ready for certain, or ``None`` if nothing tells it."""
        known = [self.ends[version.age]] if version.age in self.ends else []
        if version.event_at is not None and version.event_age is not None and version.event_age <= version.age:
            known.append(version.event_at)
        if place := bisect.bisect_right(self.ages, version.age):
            known.append(self.earliest[place - 1])
        return max(min(known), version.scheduled_at or min(known)) if known else None

    def moves(self, queue_name: str, priority: int, job_id: int) -> bool:
        """Return whether a job of the queue that comes before this one has started since the last poll."""
        return any(
            one.queue_name == queue_name and (-one.priority, one.job_id) < (-priority, job_id) for one in self.starts
        )


_newest = first_rows(
    sa.select(events.c.job_id, events.c.type, events.c.at, version_age(events).label("age")).order_by(
        events.c.id.desc()
    ),
    _NEWEST_EVENTS,
    "newest",
)
_EVENTS: sa.Select[Any] = (
    sa.select(
        moment(_newest.c.at).label("at"),
        _newest.c.age,
        (_newest.c.type == event_literal(EventType.STARTED)).label("is_start"),
        sa.func.coalesce(_newest.c.at > sa.func.now() - datetime.timedelta(seconds=POLL), sa.false()).label(
            "is_recent"
        ),
        jobs.c.queue_name,
        jobs.c.priority,
        jobs.c.id,
    )
    .select_from(_newest.outerjoin(jobs, jobs.c.id == _newest.c.job_id))
    .where(
        _newest.c.at <= sa.func.now(),
        _newest.c.type.in_(
            [
                event_literal(one)
                for one in (EventType.STARTED, EventType.SUCCEEDED, EventType.FAILED, EventType.ABORTED)
            ]
        ),
    )
)
_HEARTBEATS = sa.select(moment(workers.c.last_heartbeat).label("at"), version_age(workers).label("age")).limit(
    sa.literal_column(str(_MOST_WORKERS))
)


def read_movement(connection: sa.Connection) -> Movement:
    """Return the newest events and the last heartbeats."""
    rows = [row for row in connection.execute(_EVENTS) if row.at is not None]
    witnesses = sorted(
        [(row.age, row.at) for row in rows if row.is_start]
        + [(row.age, row.at) for row in connection.execute(_HEARTBEATS) if row.at is not None]
    )
    ends: dict[int, datetime.datetime] = {}
    for row in rows:
        if not row.is_start:
            ends[row.age] = min(row.at, ends.get(row.age, row.at))
    return Movement(
        ages=tuple(age for age, _ in witnesses),
        earliest=tuple(itertools.accumulate((at for _, at in witnesses), min)),
        ends=ends,
        starts=tuple(
            Start(queue_name=row.queue_name, priority=row.priority, job_id=row.id)
            for row in rows
            if row.is_start and row.is_recent and row.id is not None
        ),
    )


def read_version(connection: sa.Connection, job: JobFacts) -> RowVersion | None:
    """Return what is known of the version of a job's row. ``None`` if the row is gone."""
    at, age = newest_event_of(jobs.c.id)
    row = connection.execute(
        sa.select(version_age(jobs).label("age"), at, age).where(jobs.c.id == job.id)
    ).one_or_none()
    if row is None:
        return None
    return RowVersion(age=row.age, event_at=row.event_at, event_age=row.event_age, scheduled_at=job.scheduled_at)
