"""Operations on one job that somebody else may hold: its status, its cancellation, the request to abort it."""

from __future__ import annotations

import sqlalchemy as sa

from procrastinate.core.enums import Status
from procrastinate.core.tables import DOING, TODO, jobs, status_literal

_JOB_ID = sa.bindparam("job_id", type_=sa.BigInteger())


def get_job_status(connection: sa.Connection, job_id: int) -> Status | None:
    """The status of a job; ``None`` where there is no such job."""
    statement = sa.select(jobs.c.status).where(jobs.c.id == _JOB_ID)
    return connection.execute(statement, {"job_id": job_id}).scalar_one_or_none()


_WAITS = jobs.c.status == TODO
_CANCEL = (
    sa.update(jobs)
    .where(jobs.c.id == _JOB_ID, _WAITS)
    .values(status=status_literal(Status.CANCELLED), finished_at=sa.func.now())
    .returning(jobs.c.id)
)
# One statement: with two, a retry committed between them would escape both.
_CANCEL_OR_ABORT = (
    sa.update(jobs)
    .where(jobs.c.id == _JOB_ID, sa.or_(_WAITS, jobs.c.status == DOING))
    .values(
        status=sa.case((_WAITS, status_literal(Status.CANCELLED)), else_=jobs.c.status),
        finished_at=sa.case((_WAITS, sa.func.now()), else_=jobs.c.finished_at),
        abort_requested=sa.case((_WAITS, sa.false()), else_=sa.true()),
    )
    .returning(jobs.c.id)
)
# What comes back names a column that tables of Procrastinate 3.x lack. The statement fails there, and deletes nothing.
_CANCEL_BY_DELETING = sa.delete(jobs).where(jobs.c.id == _JOB_ID, _WAITS).returning(jobs.c.id, jobs.c.readiness)


def cancel_job(connection: sa.Connection, job_id: int, *, abort: bool = False, delete: bool = False) -> bool:
    """End a waiting job as cancelled; with ``abort``, ask for a running one to be stopped.

    Parameters
    ----------
    delete:
        Remove the waiting job instead of keeping it as cancelled.

    Returns
    -------
    False where there was nothing to cancel (and, with ``abort``, nothing to abort).
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
    """The ids of the running jobs whose abort was requested, of one queue or one worker where they are given."""
    statement = sa.select(jobs.c.id).where(jobs.c.status == DOING, jobs.c.abort_requested).order_by(jobs.c.id)
    if queue_name is not None:
        statement = statement.where(jobs.c.queue_name == queue_name)
    if worker_id is not None:
        statement = statement.where(jobs.c.worker_id == worker_id)
    return list(connection.execute(statement).scalars())
