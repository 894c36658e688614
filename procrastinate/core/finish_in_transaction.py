"""The end of a job, as part of the transaction in which its task has written."""

from __future__ import annotations

import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.core.finish import finish_jobs
from procrastinate.core.rows import FinishedJob
from procrastinate.core.tables import DOING, jobs

_IS_THIS_RUN = sa.and_(
    jobs.c.status == DOING,
    jobs.c.worker_id == sa.bindparam("worker", type_=sa.BigInteger()),
    jobs.c.attempts == sa.bindparam("attempts", type_=sa.Integer()),
)
# It waits where finish_jobs passes over: here an outcome that is not written takes the task's own writes with it, and
# promotions lock the row for an instant. The CASE is there for the planner, as in finish_jobs.
_HOLD = (
    sa.select(jobs.c.id)
    .where(jobs.c.id == sa.bindparam("job_id", type_=sa.BigInteger()))
    .where(sa.case((_IS_THIS_RUN, sa.true()), else_=sa.false()))
    .with_for_update(key_share=True)
)


def complete_job(connection: sa.Connection, finished: FinishedJob, *, worker_id: int) -> None:
    """Record the outcome of a job that this worker holds, in the task's own transaction, as its last statements.

    From here to the commit the row is locked: nothing but an abort request waits for it.

    Raises
    ------
    JobNotHeld
        The job is no longer this worker's. The transaction must be rolled back: another run does the same work.
    """
    parameters = {"job_id": finished.id, "worker": worker_id, "attempts": finished.attempts}
    held = connection.execute(_HOLD, parameters).scalar_one_or_none() is not None
    if not held or not finish_jobs(connection, [finished], worker_id=worker_id):
        raise exceptions.JobNotHeld(
            f"Job {finished.id} is no longer this worker's (which was taken for dead; or the job was sent back, or its "
            "run is out of time): what its transaction wrote is rolled back"
        )
