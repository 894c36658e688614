"""The load of one job, with all that explains it."""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arguments import shown
from procrastinate.core.enums import ReportKind, Status, event_type_of
from procrastinate.core.inspection.bounds import Count, bounded_count, load, moment, to_count
from procrastinate.core.inspection.records import Attempt, Event, HeldKey, JobDetails, ListedJob
from procrastinate.core.inspection.rows import LISTED, NEIGHBOUR, in_order, listed_job, neighbour
from procrastinate.core.inspection.workers import is_alive
from procrastinate.core.job_logs import MOST_RUNS, read_job_logs
from procrastinate.core.job_reports import READABLE_REPORT, is_of_last_run, to_progress
from procrastinate.core.job_states import JobState
from procrastinate.core.operation_marks import may_lag
from procrastinate.core.rows import KeptLog
from procrastinate.core.tables import (
    HAS_KNOWN_STATUS,
    errors,
    events,
    holds_lock,
    is_parked,
    job_reports,
    jobs,
    results,
    uniques,
    workers,
    workflows,
)
from procrastinate.core.unique import is_free

NEWEST_ERRORS = 20
NEWEST_EVENTS = 200
LONGEST_VALUE = 64 * 1024
"""Maximum size of arguments and results that are shown, in bytes. Longer ones can be downloaded."""
_LONGEST_TRACEBACK = 64 * 1024
_LINE = 1_000

_JOB_ID = sa.bindparam("job_id", type_=sa.BigInteger())


def _one_result(column: sa.ColumnElement[Any]) -> sa.ScalarSelect[Any]:
    return sa.select(column).where(results.c.job_id == jobs.c.id).scalar_subquery()


def _progress(column: sa.ColumnElement[Any]) -> sa.ScalarSelect[Any]:
    return sa.select(column).where(is_of_last_run(ReportKind.PROGRESS)).correlate(jobs).scalar_subquery()


_JOB: sa.Select[Any] = sa.select(
    *[column for column in LISTED if column.name != "args"],
    shown(jobs.c.args, LONGEST_VALUE).label("args"),
    jobs.c.rescues,
    sa.func.pg_column_size(jobs.c.args).label("args_size"),
    sa.exists().where(results.c.job_id == jobs.c.id).label("has_result"),
    _one_result(shown(results.c.value, LONGEST_VALUE)).label("result"),
    sa.select(moment(workers.c.last_heartbeat))
    .where(workers.c.id == jobs.c.worker_id)
    .scalar_subquery()
    .label("worker_heartbeat_at"),
    sa.func.coalesce(sa.select(is_alive()).where(workers.c.id == jobs.c.worker_id).scalar_subquery(), sa.false()).label(
        "worker_is_alive"
    ),
    jobs.c.status,
    shown(jobs.c.meta, LONGEST_VALUE).label("meta"),
    _progress(READABLE_REPORT).label("progress"),
    _progress(moment(job_reports.c.at)).label("progress_at"),
    sa.select(workflows.c.root_id).where(workflows.c.id == jobs.c.workflow_id).scalar_subquery().label("root_id"),
    jobs.c.step,
    jobs.c.limit_name,
    jobs.c.limit_key,
).where(jobs.c.id == _JOB_ID, HAS_KNOWN_STATUS)


def _middle_cut(text: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    half = _LONGEST_TRACEBACK // 2
    cut = sa.func.left(text, half).op("||")(sa.literal_column("E'\\n...\\n'")).op("||")(sa.func.right(text, half))
    return sa.case((sa.func.length(text) > _LONGEST_TRACEBACK, cut), else_=text)


_ERRORS = (
    sa.select(
        errors.c.attempt,
        errors.c.worker_id,
        moment(errors.c.at).label("at"),
        errors.c.exception_class,
        _middle_cut(errors.c.message).label("message"),
        _middle_cut(errors.c.traceback).label("traceback"),
    )
    .where(errors.c.job_id == _JOB_ID)
    .order_by(in_order(errors, newest_first=True))
    .limit(sa.literal_column(str(NEWEST_ERRORS)))
)
_EVENTS = (
    sa.select(sa.cast(events.c.type, sa.Text).label("type"), moment(events.c.at).label("at"))
    .where(events.c.job_id == _JOB_ID)
    .order_by(in_order(events, newest_first=True))
    .limit(sa.literal_column(str(NEWEST_EVENTS)))
)
_UNIQUE_KEY = (
    sa.select(
        uniques.c.key,
        uniques.c.until,
        moment(uniques.c.expires_at).label("expires_at"),
        moment(uniques.c.start_by).label("start_by"),
        sa.not_(is_free(jobs)).label("is_held"),
    )
    .select_from(uniques.join(jobs, jobs.c.id == uniques.c.job_id))
    .where(uniques.c.job_id == _JOB_ID)
    .limit(sa.literal_column("1"))
)
_LOCK = sa.bindparam("lock", type_=sa.Text())
_HOLDER = sa.select(*NEIGHBOUR).where(holds_lock(), jobs.c.lock == _LOCK, jobs.c.id != _JOB_ID)
_RANK = sa.or_(
    jobs.c.priority > sa.bindparam("priority", type_=sa.Integer()),
    sa.and_(jobs.c.priority == sa.bindparam("priority", type_=sa.Integer()), jobs.c.id < _JOB_ID),
)
_PARKED: sa.Select[Any] = (
    sa.select(sa.literal_column("1"))
    .where(is_parked(), jobs.c.lock == _LOCK)
    .order_by(jobs.c.lock, jobs.c.priority.desc(), jobs.c.id)
)
_IN_FRONT = sa.select(bounded_count(_PARKED.where(_RANK), _LINE))
_BEHIND = sa.select(bounded_count(_PARKED.where(jobs.c.id != _JOB_ID), _LINE))


@may_lag
@load
def load_job(connection: sa.Connection, now: datetime.datetime, job_id: int) -> JobDetails | None:
    """Return everything about a job, or ``None`` if there is no such job."""
    row = connection.execute(_JOB, {"job_id": job_id}).one_or_none()
    if row is None:
        return None
    job = listed_job(row)
    holder = None
    if job.lock is not None and job.state.is_waiting:
        holder = neighbour(connection.execute(_HOLDER, {"job_id": job_id, "lock": job.lock}).first())
    return JobDetails(
        now=now,
        job=job,
        rescues=row.rescues,
        args_size=row.args_size,
        has_result=row.has_result,
        result=row.result,
        errors=tuple(Attempt(**one._mapping) for one in connection.execute(_ERRORS, {"job_id": job_id})),
        events=_read_events(connection, job_id),
        holder=holder,
        line=_line(connection, job),
        worker_heartbeat_at=row.worker_heartbeat_at,
        worker_is_alive=row.worker_is_alive,
        unique_key=_unique_key(connection, job_id),
        meta=row.meta,
        progress=None
        if row.progress is None
        else to_progress(Status(row.status), job.attempts, row.progress_at, row.progress),
        workflow_id=row.root_id,
        step=row.step,
        limit_name=row.limit_name,
        limit_key=row.limit_key,
    )


def _read_events(connection: sa.Connection, job_id: int) -> tuple[Event, ...]:
    rows = connection.execute(_EVENTS, {"job_id": job_id})
    return tuple(Event(type=event_type_of(row.type), at=row.at) for row in rows)


def _unique_key(connection: sa.Connection, job_id: int) -> HeldKey | None:
    """Return the key of a job. Plain SQL may have given it several."""
    row = connection.execute(_UNIQUE_KEY, {"job_id": job_id}).first()
    return None if row is None else HeldKey(**row._mapping)


def _line(connection: sa.Connection, job: ListedJob) -> Count:
    if job.lock is None or job.state.has_ended:
        return Count(number=0)
    statement = _IN_FRONT if job.state is JobState.BLOCKED else _BEHIND
    parameters: dict[str, Any] = {"job_id": job.id, "lock": job.lock}
    if job.state is JobState.BLOCKED:
        parameters["priority"] = job.priority
    return to_count(connection.execute(statement, parameters).scalar_one(), _LINE)


@may_lag
@load
def load_job_logs(
    connection: sa.Connection, now: datetime.datetime, job_id: int, *, runs: int = MOST_RUNS
) -> tuple[KeptLog, ...] | None:
    """Return what the newest runs of a job logged, newest first, or ``None`` if there is no such job."""
    return read_job_logs(connection, job_id, runs=runs)


_WHOLE = sa.select(sa.cast(jobs.c.args, sa.Text)).where(jobs.c.id == _JOB_ID)


@may_lag
def load_whole_arguments(connection: sa.Connection, job_id: int) -> str | None:
    """Return the arguments of a job as JSON text, however long, or ``None`` if there is no such job."""
    return connection.execute(_WHOLE, {"job_id": job_id}).scalar_one_or_none()
