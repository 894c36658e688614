"""Operations that look: jobs one by one, and counts by queue, task and lock."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from procrastinate.core.enums import Status
from procrastinate.core.fetch import STORED_COLUMNS, stored_job
from procrastinate.core.records import JobCounts, StoredJob
from procrastinate.core.tables import jobs, status_literal

_ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ABORTED)


def _has_status(status: Status) -> list[sa.ColumnElement[bool]]:
    """Return the conditions as the partial indexes have them. Every ended job has the time of its end."""
    has_ended = [jobs.c.finished_at.is_not(None)] if status in _ENDED else []
    return [jobs.c.status == status_literal(status), *has_ended]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobFilter:
    """Which jobs to look at; ``None`` leaves a criterion out."""

    id: int | None = None
    queue_name: str | None = None
    task_name: str | None = None
    status: Status | None = None
    lock: str | None = None
    queueing_lock: str | None = None
    worker_id: int | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """The criteria as conditions on the jobs table."""
        chosen = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "status"}
        conditions = [jobs.c[name] == value for name, value in chosen.items() if value is not None]
        return conditions if self.status is None else [*conditions, *_has_status(self.status)]


def list_jobs(
    connection: sa.Connection, job_filter: JobFilter, *, limit: int | None = None, after_id: int | None = None
) -> list[StoredJob]:
    """The jobs that match, by id.

    Parameters
    ----------
    limit, after_id:
        To read a long list in pages: at most so many, and only those with a greater id.
    """
    statement = sa.select(*STORED_COLUMNS).where(*job_filter.conditions()).order_by(jobs.c.id)
    if after_id is not None:
        statement = statement.where(jobs.c.id > after_id)
    if limit is not None:
        statement = statement.limit(limit)
    return [stored_job(row) for row in connection.execute(statement)]


_COUNTED = (Status.TODO, Status.DOING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ABORTED)


def _count_by(
    connection: sa.Connection, column: sa.ColumnElement[str | None], job_filter: JobFilter
) -> list[JobCounts]:
    by_status = (
        sa.func.count().filter(jobs.c.status == status_literal(status)).label(status.value) for status in _COUNTED
    )
    statement = (
        sa.select(column.label("name"), sa.func.count().label("jobs_count"), *by_status)
        .where(column.is_not(None), *job_filter.conditions())
        .group_by(column)
        .order_by(column)
    )
    return [JobCounts(**row._mapping) for row in connection.execute(statement)]


def count_by_queue(connection: sa.Connection, job_filter: JobFilter) -> list[JobCounts]:
    """Counts of the jobs that match, for each queue."""
    return _count_by(connection, jobs.c.queue_name, job_filter)


def count_by_task(connection: sa.Connection, job_filter: JobFilter) -> list[JobCounts]:
    """Counts of the jobs that match, for each task."""
    return _count_by(connection, jobs.c.task_name, job_filter)


def count_by_lock(connection: sa.Connection, job_filter: JobFilter) -> list[JobCounts]:
    """Counts of the jobs that match, for each lock."""
    return _count_by(connection, jobs.c.lock, job_filter)
