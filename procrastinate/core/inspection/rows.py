"""Read a row of a job into its record."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arguments import EXCERPT_ARGUMENTS
from procrastinate.core.enums import EventType
from procrastinate.core.inspection.bounds import moment
from procrastinate.core.inspection.records import ListedJob, Neighbour
from procrastinate.core.job_states import STATE, JobState
from procrastinate.core.tables import errors, event_literal, events, jobs

_LONGEST_MESSAGE = 500


def in_order(table: sa.Table, *, newest_first: bool) -> sa.ColumnElement[Any]:
    """Return the order of the few rows of a job.

    A plain order by the id lets PostgreSQL walk along the primary key, past the rows of all other jobs.
    """
    by_id = table.c.id + sa.literal_column("0")
    return by_id.desc() if newest_first else by_id.asc()


def deferred_at(job_id: sa.ColumnElement[int]) -> sa.ScalarSelect[Any]:
    """Return the query for the time at which a job was deferred."""
    return (
        sa.select(events.c.at)
        .where(events.c.job_id == job_id)
        .order_by(in_order(events, newest_first=False))
        .limit(sa.literal_column("1"))
        .scalar_subquery()
    )


def started_at(job_id: sa.ColumnElement[int]) -> sa.ScalarSelect[Any]:
    """Return the query for the start of the last run of a job."""
    return (
        sa.select(sa.func.max(events.c.at))
        .where(events.c.job_id == job_id, events.c.type == event_literal(EventType.STARTED))
        .scalar_subquery()
    )


def _last_error(column: sa.ColumnElement[Any]) -> sa.ScalarSelect[Any]:
    return (
        sa.select(column)
        .where(errors.c.job_id == jobs.c.id)
        .order_by(in_order(errors, newest_first=True))
        .limit(sa.literal_column("1"))
        .scalar_subquery()
    )


LISTED: tuple[sa.ColumnElement[Any], ...] = (
    jobs.c.id,
    STATE.label("state"),
    jobs.c.queue_name,
    jobs.c.task_name,
    jobs.c.priority,
    jobs.c.lock,
    jobs.c.queueing_lock,
    EXCERPT_ARGUMENTS.label("args"),
    jobs.c.attempts,
    jobs.c.abort_requested,
    jobs.c.worker_id,
    moment(jobs.c.scheduled_at).label("scheduled_at"),
    # The steps of a workflow have that time until the steps before them have ended.
    sa.and_(
        STATE.is_not_distinct_from(JobState.SCHEDULED.value),
        jobs.c.scheduled_at.is_not_distinct_from(sa.literal_column("'infinity'::timestamptz")),
    ).label("never_due"),
    moment(deferred_at(jobs.c.id)).label("deferred_at"),
    moment(started_at(jobs.c.id)).label("started_at"),
    moment(jobs.c.finished_at).label("finished_at"),
    _last_error(errors.c.exception_class).label("error_class"),
    _last_error(sa.func.left(errors.c.message, _LONGEST_MESSAGE)).label("error_message"),
)
_LISTED_NAMES = [field.name for field in dataclasses.fields(ListedJob)]

NEIGHBOUR: tuple[sa.ColumnElement[Any], ...] = (
    jobs.c.id,
    STATE.label("state"),
    jobs.c.task_name,
    jobs.c.queue_name,
    jobs.c.worker_id,
    moment(jobs.c.finished_at).label("finished_at"),
)
_NEIGHBOUR_NAMES = [field.name for field in dataclasses.fields(Neighbour)]


def listed_job(row: Any) -> ListedJob:
    """Return the record of a row of :data:`LISTED`."""
    values = {name: row._mapping[name] for name in _LISTED_NAMES}
    return ListedJob(**{**values, "state": JobState(values["state"])})


def neighbour(row: Any) -> Neighbour | None:
    """Return the record of a row of :data:`NEIGHBOUR`."""
    if row is None:
        return None
    values = {name: row._mapping[name] for name in _NEIGHBOUR_NAMES}
    return Neighbour(**{**values, "state": JobState(values["state"])})
