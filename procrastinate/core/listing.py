"""Operations that list jobs and count them by queue, task and lock."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from procrastinate.core.criteria import equals
from procrastinate.core.enums import Status
from procrastinate.core.fetch import STORED_COLUMNS, stored_job
from procrastinate.core.operation_marks import may_lag
from procrastinate.core.rows import JobCounts, StoredJob
from procrastinate.core.tables import (
    HAS_KNOWN_STATUS,
    due_at,
    is_in_line,
    is_parked,
    is_ready_in_any_queue,
    is_upcoming,
    jobs,
    status_literal,
    waits_for_others,
)

_ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ABORTED)

_RANK = (jobs.c.priority.desc(), jobs.c.id)
_WAITING: tuple[tuple[sa.ColumnElement[bool], tuple[sa.ColumnElement[Any], ...]], ...] = (
    (is_ready_in_any_queue(), _RANK),
    (is_upcoming(), (due_at(), *_RANK)),
    (is_parked(), (jobs.c.lock, *_RANK)),
    (is_in_line(), (jobs.c.limit_name, jobs.c.limit_key, *_RANK)),
    (waits_for_others(), (jobs.c.id,)),
)
"""The condition and the order of each partial index of waiting jobs."""


def _has_status(status: Status) -> list[sa.ColumnElement[bool]]:
    """Return the conditions in the form of the partial indexes.

    Every ended job has an end time. Every waiting job fits one of the conditions, which the triggers guarantee.
    """
    conditions: list[sa.ColumnElement[bool]] = [jobs.c.status == status_literal(status)]
    if status in _ENDED:
        conditions.append(jobs.c.finished_at.is_not(None))
    if status is Status.TODO:
        conditions.append(sa.or_(*(condition for condition, _ in _WAITING)))
    return conditions


def first_waiting(limit: int) -> sa.Select[tuple[int]]:
    """Return a query for the ids of the first waiting jobs of each state, at most ``limit`` per state.

    The order is that in which jobs become ready and run. Each part stops at its limit, however long the table is.
    """
    parts = (sa.select(jobs.c.id).where(condition).order_by(*order) for condition, order in _WAITING)
    limited = (sa.select(part.limit(sa.literal_column(str(limit))).subquery()) for part in parts)
    return sa.select(sa.union_all(*limited).subquery("waiting").c.id)


@functools.cache
def first_waiting_sql(limit: int) -> str:
    """Return :func:`first_waiting` as text without parameters, for another library's query."""
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    return str(first_waiting(limit).compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobFilter:
    """Criteria for jobs. ``None`` leaves a criterion out. A value that no row can have finds no job."""

    id: int | None = None
    queue_name: str | None = None
    task_name: str | None = None
    status: Status | None = None
    lock: str | None = None
    queueing_lock: str | None = None
    worker_id: int | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the criteria as conditions on the jobs table."""
        chosen = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "status"}
        conditions = [equals(jobs.c[name], value) for name, value in chosen.items() if value is not None]
        return conditions if self.status is None else [*conditions, *_has_status(self.status)]


@may_lag
def list_jobs(
    connection: sa.Connection, job_filter: JobFilter, *, limit: int | None = None, after_id: int | None = None
) -> list[StoredJob]:
    """Return the matching jobs, ordered by id, without those whose status only a later release knows.

    Parameters
    ----------
    limit:
        The most jobs to return.
    after_id:
        Return only jobs with a greater id. With ``limit``, this reads a long list in pages.
    """
    statement = sa.select(*STORED_COLUMNS).where(*job_filter.conditions())
    if job_filter.status is None:
        statement = statement.where(HAS_KNOWN_STATUS)
    if after_id is not None:
        statement = statement.where(jobs.c.id > after_id)
    if job_filter.status is Status.TODO and after_id is None:
        # Most jobs before the first waiting one have ended, and an order by the plain id would walk over them.
        statement = statement.order_by(jobs.c.id + sa.literal_column("0"))
    else:
        statement = statement.order_by(jobs.c.id)
    if limit is not None:
        statement = statement.limit(limit)
    return [stored_job(row) for row in connection.execute(statement)]


_COUNTED = (Status.TODO, Status.DOING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ABORTED)


def _count_by(
    connection: sa.Connection, column: sa.ColumnElement[str | None], job_filter: JobFilter
) -> list[JobCounts]:
    """Count by name and status, which PostgreSQL does in parallel, then merge the counts of a name into one row."""
    counted = (
        sa.select(column.label("name"), jobs.c.status, sa.func.count().label("number"))
        .where(column.is_not(None), *job_filter.conditions())
        .group_by(column, jobs.c.status)
        .subquery("counted")
    )

    def total(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        number = sa.func.sum(counted.c.number)
        return sa.cast(sa.func.coalesce(number.filter(*conditions) if conditions else number, 0), sa.BigInteger)

    by_status = (total(counted.c.status == status_literal(status)).label(status.value) for status in _COUNTED)
    statement = (
        sa.select(counted.c.name, total().label("jobs_count"), *by_status)
        .group_by(counted.c.name)
        .order_by(counted.c.name)
    )
    return [JobCounts(**row._mapping) for row in connection.execute(statement)]


@may_lag
def count_by_queue(connection: sa.Connection, job_filter: JobFilter) -> list[JobCounts]:
    """Count the matching jobs of each queue."""
    return _count_by(connection, jobs.c.queue_name, job_filter)


@may_lag
def count_by_task(connection: sa.Connection, job_filter: JobFilter) -> list[JobCounts]:
    """Count the matching jobs of each task."""
    return _count_by(connection, jobs.c.task_name, job_filter)


@may_lag
def count_by_lock(connection: sa.Connection, job_filter: JobFilter) -> list[JobCounts]:
    """Count the matching jobs of each lock."""
    return _count_by(connection, jobs.c.lock, job_filter)
