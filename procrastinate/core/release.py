"""Operations that undo a fetch: find and release fetched jobs that the worker has not started."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import array_param, transpose, unnest
from procrastinate.core.enums import Status
from procrastinate.core.finish import free_rows, queueing_lock_on_return
from procrastinate.core.operation_marks import prepared
from procrastinate.core.rows import FetchedJob
from procrastinate.core.tables import DOING, PROMOTED, TODO, UNDECIDED, is_ready_by_its_row, jobs, status_literal


@functools.cache
def _release_statement(*, keep_queueing_locks: bool, delayed: bool) -> Any:
    free = free_rows(unnest({"id": sa.BigInteger(), "attempts": sa.Integer()}, name="fetched"), briefly=True)
    own = jobs.alias("own")
    in_line = sa.func.row_number().over(partition_by=own.c.queueing_lock, order_by=(own.c.abort_requested, own.c.id))
    placed = sa.select(own.c.id, in_line.label("place")).join(free, free.c.id == own.c.id).cte("placed")
    aborted = jobs.c.abort_requested
    delay = sa.func.make_interval(0, 0, 0, 0, 0, 0, sa.bindparam("delay", type_=sa.Double()), type_=sa.Interval())
    as_ready_as_before = sa.case((sa.or_(aborted, is_ready_by_its_row()), UNDECIDED), else_=PROMOTED)
    later: dict[str, Any] = {"scheduled_at": sa.func.now() + delay, "readiness": UNDECIDED}
    return (
        sa.update(jobs)
        .where(jobs.c.id == placed.c.id)
        .values(
            status=sa.case((aborted, status_literal(Status.ABORTED)), else_=TODO),
            finished_at=sa.case((aborted, sa.func.now()), else_=sa.null()),
            abort_requested=False,
            worker_id=None,
            queueing_lock=queueing_lock_on_return(placed.c.place) if keep_queueing_locks else sa.null(),
            **(later if delayed else {"readiness": as_ready_as_before}),
        )
        .returning(jobs.c.id, jobs.c.status)
    )


def release_jobs(
    connection: sa.Connection,
    fetched: Sequence[FetchedJob],
    *,
    worker_id: int,
    delay: float | None = None,
    keep_queueing_locks: bool = True,
) -> dict[int, Status]:
    """Release jobs that this worker holds and has not started, in one statement.

    The release counts no attempt. A job with an abort request ends as aborted. A job loses its queueing lock if another
    waiting job has taken it, as in :func:`~procrastinate.core.finish.retry_jobs`, and the errors are the same.

    Do not repeat the call after a lost answer: the worker may have fetched the same jobs again, in the same attempt.
    :func:`~procrastinate.core.rescue.return_unknown_jobs` tells the two cases apart.

    Parameters
    ----------
    delay:
        Seconds until the jobs may start. ``None`` leaves their schedule as it is.

    Returns
    -------
    The status of each released job. A missing job is not this worker's any more, or its row is locked.
    """
    if not fetched:
        return {}
    parameters: dict[str, Any] = transpose(fetched, ("id", "attempts"))
    parameters["worker"] = worker_id
    if delay is not None:
        parameters["delay"] = delay
    statement = _release_statement(keep_queueing_locks=keep_queueing_locks, delayed=delay is not None)
    rows = connection.execute(statement, parameters)
    return {row.id: row.status for row in rows}


_UNKNOWN = prepared(
    sa.select(jobs.c.id, jobs.c.attempts).where(
        jobs.c.status == DOING,
        jobs.c.worker_id == sa.bindparam("worker", type_=sa.BigInteger()),
        jobs.c.id != sa.all_(array_param("known", sa.BigInteger())),
    )
)


def list_unknown_jobs(connection: sa.Connection, *, worker_id: int, known_ids: Collection[int]) -> list[FetchedJob]:
    """Return running jobs that the database assigns to this worker but the worker does not know.

    Such jobs come from a fetch whose answer was lost.

    Parameters
    ----------
    known_ids:
        The worker's jobs, including finished jobs without a recorded outcome.
    """
    rows = connection.execute(_UNKNOWN, {"worker": worker_id, "known": list(known_ids)})
    return [FetchedJob(id=row.id, attempts=row.attempts) for row in rows]
