"""The stack of a running job: where its code is now.

The request is a notification. The worker that runs the job answers with a report of the run. A notification changes
nothing else, because any role may send one.
"""

from __future__ import annotations

import datetime
import json

import sqlalchemy as sa

from procrastinate.core.arguments import shown
from procrastinate.core.channels import ANY_QUEUE_CHANNEL, queue_channel
from procrastinate.core.enums import ReportKind, Status
from procrastinate.core.fetch import from_microseconds, microseconds
from procrastinate.core.job_reports import is_of_last_run
from procrastinate.core.rows import JobStack, StackRequest
from procrastinate.core.stored_json import load_object
from procrastinate.core.tables import HAS_KNOWN_STATUS, job_reports, jobs, workers

_LONGEST = 100_000
"""Maximum size in bytes of a stack that is read. What this project writes is shorter."""


_JOB_ID = sa.bindparam("job_id", type_=sa.BigInteger())
_RUN = (
    sa.select(
        jobs.c.status,
        jobs.c.queue_name,
        (jobs.c.attempts + 1).label("attempt"),
        microseconds(sa.func.clock_timestamp()).label("at"),
        workers.c.listens,
    )
    .select_from(jobs.outerjoin(workers, workers.c.id == jobs.c.worker_id))
    .where(jobs.c.id == _JOB_ID, HAS_KNOWN_STATUS)
)
_NOTIFY = sa.select(
    sa.func.pg_notify(ANY_QUEUE_CHANNEL, sa.bindparam("payload", type_=sa.Text())),
    sa.func.pg_notify(sa.bindparam("channel", type_=sa.Text()), sa.bindparam("payload", type_=sa.Text())),
)
_READ = (
    sa.select(
        job_reports.c.attempt,
        microseconds(job_reports.c.at).label("at"),
        shown(job_reports.c.content, _LONGEST).label("content"),
    )
    .select_from(jobs.join(job_reports, is_of_last_run(ReportKind.STACK)))
    .where(jobs.c.id == _JOB_ID)
)


def request_stack(connection: sa.Connection, job_id: int) -> StackRequest | None:
    """Ask the worker that runs a job for its stack. ``None`` if the job does not exist."""
    row = connection.execute(_RUN, {"job_id": job_id}).one_or_none()
    if row is None:
        return None
    at = from_microseconds(row.at)
    assert at is not None
    request = StackRequest(status=Status(row.status), attempt=row.attempt, at=at, listens=row.listens)
    if request:
        payload = stack_request(job_id)
        connection.execute(_NOTIFY, {"payload": payload, "channel": queue_channel(row.queue_name)})
    return request


def stack_request(job_id: int) -> str:
    """Return the notification. For a worker of an older release it is a hint to look for requests to abort."""
    return json.dumps({"type": "abort_job_requested", "job_id": job_id, "stack": True})


def read_job_stack(connection: sa.Connection, job_id: int) -> JobStack | None:
    """Return the last stack of the run under way, or else of the last run. ``None`` if there is none.

    A job that waits for its next run has none.
    """
    row = connection.execute(_READ, {"job_id": job_id}).one_or_none()
    return None if row is None else to_stack(row.attempt, from_microseconds(row.at), row.content)


def to_stack(attempt: int, at: datetime.datetime | None, content: str | None) -> JobStack | None:
    """Return the record of a report. Any client can write the table, so nothing is taken for granted."""
    text = load_object(content).get("text")
    return JobStack(attempt=attempt, at=at, text=text) if at is not None and text and isinstance(text, str) else None
