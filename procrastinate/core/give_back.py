"""The operation that undoes a fetch: jobs that a worker has fetched, and has not started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import transpose, unnest
from procrastinate.core.enums import Status
from procrastinate.core.record import free_rows, queueing_lock_on_return
from procrastinate.core.records import FetchedJob
from procrastinate.core.tables import TODO, jobs, status_literal


def _give_back_statement(*, keep_queueing_locks: bool) -> Any:
    free = free_rows(unnest({"id": sa.BigInteger(), "attempts": sa.Integer()}, name="fetched"), briefly=True)
    own = jobs.alias("own")
    in_line = sa.func.row_number().over(partition_by=own.c.queueing_lock, order_by=(own.c.abort_requested, own.c.id))
    placed = sa.select(own.c.id, in_line.label("place")).join(free, free.c.id == own.c.id).cte("placed")
    aborted = jobs.c.abort_requested
    return (
        sa.update(jobs)
        .where(jobs.c.id == placed.c.id)
        .values(
            status=sa.case((aborted, status_literal(Status.ABORTED)), else_=TODO),
            finished_at=sa.case((aborted, sa.func.now()), else_=sa.null()),
            abort_requested=False,
            worker_id=None,
            queueing_lock=queueing_lock_on_return(placed.c.place) if keep_queueing_locks else sa.null(),
        )
        .returning(jobs.c.id, jobs.c.status)
    )


_GIVE_BACK = _give_back_statement(keep_queueing_locks=True)
_GIVE_BACK_WITHOUT_LOCKS = _give_back_statement(keep_queueing_locks=False)


def give_back_jobs(
    connection: sa.Connection, fetched: Sequence[FetchedJob], *, worker_id: int, keep_queueing_locks: bool = True
) -> dict[int, Status]:
    """Let jobs wait again that this worker holds and has not started, as ready as they were, in one statement.

    No attempt is counted. A job whose abort was requested meanwhile ends as aborted. A queueing lock that another
    waiting job has taken is lost, as :func:`~procrastinate.core.record.retry_jobs` says; so are its errors the same.

    Once the answer is lost, the call must not be made again: the worker may have fetched the same jobs anew, in the
    same attempt. :func:`~procrastinate.core.workers.return_unknown_jobs` tells the two cases apart.

    Returns
    -------
    The status of each job that was given back; one that is missing was no longer this worker's, or somebody has its
    row locked just now.
    """
    if not fetched:
        return {}
    parameters: dict[str, Any] = transpose(fetched, ("id", "attempts"))
    statement = _GIVE_BACK if keep_queueing_locks else _GIVE_BACK_WITHOUT_LOCKS
    rows = connection.execute(statement, parameters | {"worker": worker_id})
    return {row.id: row.status for row in rows}
