"""Operations on one job that a person asks for: run it now, run it again, delete it."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from procrastinate.core.defer import Extent, row_of, skip_taken
from procrastinate.core.enums import Status
from procrastinate.core.tables import UNDECIDED, dependencies, is_upcoming, jobs, status_literal

_JOB_ID = sa.bindparam("job_id", type_=sa.BigInteger())
_ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ABORTED)

_RUN_NOW = (
    sa.update(jobs)
    .where(jobs.c.id == _JOB_ID, is_upcoming(), jobs.c.scheduled_at > sa.func.now())
    .values(scheduled_at=sa.func.now(), readiness=UNDECIDED)
    .returning(jobs.c.id)
)
_DELETE = (
    sa.delete(jobs)
    .where(jobs.c.id == _JOB_ID, jobs.c.status.in_([status_literal(status) for status in _ENDED]))
    .returning(jobs.c.id)
)

# The arguments of such a step have no values in the places of the results.
_TAKES_RESULTS = (
    sa.select(dependencies.c.id)
    .where(dependencies.c.job_id == jobs.c.id, dependencies.c.argument.is_not(None))
    .exists()
)
_NOT_COPIED = ("scheduled_at", "trace_context")
_COPY = row_of(lambda name, _: sa.null() if name in _NOT_COPIED else jobs.c[name], extent=Extent.WEIGHED)
_RUN_AGAIN = skip_taken(
    insert(jobs).from_select(
        list(_COPY),
        sa.select(*_COPY.values()).where(
            jobs.c.id == _JOB_ID, jobs.c.status.in_([status_literal(status) for status in _ENDED]), ~_TAKES_RESULTS
        ),
    )
).returning(jobs.c.id)


def run_job_now(connection: sa.Connection, job_id: int) -> bool:
    """Let a scheduled job run at once.

    Returns
    -------
    False if there is no such job, or it does not wait for its scheduled time. A step that waits for others does not.
    """
    return connection.execute(_RUN_NOW, {"job_id": job_id}).scalar_one_or_none() is not None


def run_job_again(connection: sa.Connection, job_id: int) -> int | None:
    """Defer a job like one that has ended: with its task, queue, priority, locks, limit, arguments and metadata, and no
    schedule.

    Returns
    -------
    The id of the new job. ``None`` if there is no such job, if it has not ended, if its queueing lock is taken, or if
    it is a step that takes results of other steps.
    """
    return connection.execute(_RUN_AGAIN, {"job_id": job_id}).scalar_one_or_none()


def delete_ended_job(connection: sa.Connection, job_id: int) -> bool:
    """Delete a job that has ended, with its history, errors and result.

    Returns
    -------
    False if there is no such job, or it has not ended.
    """
    return connection.execute(_DELETE, {"job_id": job_id}).scalar_one_or_none() is not None
