"""Record a job's outcome in the transaction of its task."""

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
# This waits for locked rows, which finish_jobs skips: an unwritten outcome would roll back the task's own writes, and
# promotions lock the row only for an instant. The CASE helps the planner, as in finish_jobs.
_HOLD = (
    sa.select(jobs.c.id)
    .where(jobs.c.id == sa.bindparam("job_id", type_=sa.BigInteger()))
    .where(sa.case((_IS_THIS_RUN, sa.true()), else_=sa.false()))
    .with_for_update(key_share=True)
)


def complete_job(connection: sa.Connection, finished: FinishedJob, *, worker_id: int) -> None:
    """Record the outcome of a job that this worker holds, as the last statements of the task's own transaction.

    The row stays locked until the commit. Only an abort request waits for it.

    Raises
    ------
    JobNotHeld
        Another run does the same work, because this worker no longer holds the job. Roll back the transaction.
    """
    parameters = {"job_id": finished.id, "worker": worker_id, "attempts": finished.attempts}
    held = connection.execute(_HOLD, parameters).scalar_one_or_none() is not None
    if not held or not finish_jobs(connection, [finished], worker_id=worker_id):
        raise exceptions.JobNotHeld(
            f"This worker no longer holds job {finished.id} (other workers considered this worker dead, the job was "
            "sent back, or its run timed out): the transaction is rolled back"
        )
