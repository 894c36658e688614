"""Operations on one job that a worker may hold: get its status, cancel it, request an abort."""

from __future__ import annotations

import sqlalchemy as sa

from procrastinate.core.criteria import equals
from procrastinate.core.enums import Status
from procrastinate.core.tables import DOING, HAS_KNOWN_STATUS, TODO, UNDECIDED, jobs, status_literal

_JOB_ID = sa.bindparam("job_id", type_=sa.BigInteger())


def get_job_status(connection: sa.Connection, job_id: int) -> Status | None:
    """Return the status of a job, or ``None`` if the job does not exist."""
    statement = sa.select(jobs.c.status).where(jobs.c.id == _JOB_ID, HAS_KNOWN_STATUS)
    return connection.execute(statement, {"job_id": job_id}).scalar_one_or_none()


_WAITS = jobs.c.status == TODO
_CANCEL = (
    sa.update(jobs)
    .where(jobs.c.id == _JOB_ID, _WAITS)
    .values(status=status_literal(Status.CANCELLED), finished_at=sa.func.now(), readiness=UNDECIDED)
    .returning(jobs.c.id)
)
# One statement: a retry committed between two statements would escape both.
_CANCEL_OR_ABORT = (
    sa.update(jobs)
    .where(jobs.c.id == _JOB_ID, sa.or_(_WAITS, jobs.c.status == DOING))
    .values(
        status=sa.case((_WAITS, status_literal(Status.CANCELLED)), else_=jobs.c.status),
        finished_at=sa.case((_WAITS, sa.func.now()), else_=jobs.c.finished_at),
        abort_requested=sa.case((_WAITS, sa.false()), else_=sa.true()),
        readiness=UNDECIDED,
    )
    .returning(jobs.c.id)
)
# RETURNING names a column that the tables of Procrastinate 3.x lack. The statement fails there and deletes nothing.
_CANCEL_BY_DELETING = sa.delete(jobs).where(jobs.c.id == _JOB_ID, _WAITS).returning(jobs.c.id, jobs.c.readiness)


def cancel_job(connection: sa.Connection, job_id: int, *, abort: bool = False, delete: bool = False) -> bool:
    """Cancel a waiting job; with ``abort``, also request the abort of a running one.

    Parameters
    ----------
    abort:
        Set ``abort_requested`` if the job is running.
    delete:
        Delete the waiting job instead of keeping it as cancelled.

    Returns
    -------
    True if a job was cancelled, deleted or asked to abort.
    """
    statements: list[sa.UpdateBase] = [_CANCEL_BY_DELETING] if delete else []
    if abort or not delete:
        statements.append(_CANCEL_OR_ABORT if abort else _CANCEL)
    return any(
        connection.execute(statement, {"job_id": job_id}).scalar_one_or_none() is not None for statement in statements
    )


def list_jobs_to_abort(
    connection: sa.Connection, *, queue_name: str | None = None, worker_id: int | None = None
) -> list[int]:
    """Return the ids of running jobs with an abort request, optionally of one queue or one worker."""
    statement = sa.select(jobs.c.id).where(jobs.c.status == DOING, jobs.c.abort_requested).order_by(jobs.c.id)
    if queue_name is not None:
        statement = statement.where(equals(jobs.c.queue_name, queue_name))
    if worker_id is not None:
        statement = statement.where(equals(jobs.c.worker_id, worker_id))
    return list(connection.execute(statement).scalars())
