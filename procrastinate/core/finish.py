"""Operations that write down how a job ended: finished for good, or to be tried again."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from procrastinate.core.arrays import Word, is_one_of, time_param, transpose, unnest, write_columns
from procrastinate.core.dead_workers import is_silent
from procrastinate.core.defaults import STALLED_TIMEOUT
from procrastinate.core.enums import Status
from procrastinate.core.errors import is_unique_violation
from procrastinate.core.lock_timeouts import waits_briefly
from procrastinate.core.operation_marks import atomic, prepared
from procrastinate.core.rows import FinishedJob, JobRetry
from procrastinate.core.tables import (
    DOING,
    TODO,
    UNDECIDED,
    holds_queueing_lock,
    jobs,
    one_more,
    status_literal,
    status_type,
    workers,
)
from procrastinate.core.together import Call
from procrastinate.core.write_results import (
    DETAIL_COLUMNS,
    ERROR_COLUMNS,
    announced,
    detail_parameters,
    error_parameters,
    has_details,
    in_statements,
    keep_error,
    keep_result,
)

_WORKER = sa.bindparam("worker", type_=sa.BigInteger())

_FINISHED_COLUMNS: dict[str, TypeEngine[Any]] = {"id": sa.BigInteger(), "attempts": sa.Integer()}
_finished = unnest(_FINISHED_COLUMNS, name="finished")


def still_held_by_worker(fetched: sa.TableValuedAlias, row: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """Return the fence: the job runs, for this worker, in the very attempt that it was fetched for.

    ``attempts`` grows whenever a job leaves ``doing``, so a worker that was thought dead cannot write over
    a later run, not even over one of its own.

    The CASE hides the conditions from the planner, which would else start from "a handful of running jobs" and
    compare each of them with each of the batch.
    """
    is_this_run = sa.and_(row.c.status == DOING, row.c.worker_id == _WORKER, row.c.attempts == fetched.c.attempts)
    return sa.and_(row.c.id == fetched.c.id, sa.case((is_this_run, sa.true()), else_=sa.false()))


def free_rows(fetched: sa.TableValuedAlias, *columns: sa.ColumnElement[Any], briefly: bool = False) -> sa.CTE:
    """Select the rows of this batch that no other session has locked.

    A user's open transaction that cancels one of the jobs must not make the others wait.

    Each row is looked up by itself: a join would be planned for the size that the table has when the plan is made.

    Parameters
    ----------
    briefly:
        The statement takes queueing locks. It waits no longer than a moment for one that another session has taken.
    """
    row = jobs.alias("held_now")
    held = (
        sa.select(row.c.id)
        .where(still_held_by_worker(fetched, row))
        .limit(1)
        .with_for_update(key_share=True, skip_locked=True)
        .lateral("held")
    )
    return (
        sa.select(held.c.id, *columns)
        .select_from(fetched.join(held, sa.true()))
        .where(*([waits_briefly()] if briefly else []))
        .cte("free")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )


def _end(status: sa.ColumnElement[str]) -> sa.Update:
    return sa.update(jobs).values(
        status=sa.cast(status, status_type),
        attempts=one_more(jobs.c.attempts),
        abort_requested=False,
        finished_at=sa.func.now(),
    )


@functools.cache
def _end_with_details() -> Any:
    detailed = unnest({**_FINISHED_COLUMNS, "status_text": Word(), **DETAIL_COLUMNS}, name="finished")
    details = [detailed.c[name] for name in DETAIL_COLUMNS]
    free = free_rows(detailed, detailed.c.status_text, *details)
    kept = [free.c[name] for name in DETAIL_COLUMNS]
    ended = _end(free.c.status_text).where(jobs.c.id == free.c.id)
    recorded = ended.returning(jobs.c.id, jobs.c.attempts, *kept).cte("recorded")
    return sa.select(recorded.c.id, announced(recorded)).add_cte(keep_result(recorded), keep_error(recorded, _WORKER))


_is_free = is_one_of(jobs.c.id, sa.select(free_rows(_finished).c.id))
_KEEP = prepared(_end(sa.bindparam("new_status", type_=sa.Text())).where(_is_free).returning(jobs.c.id))
_DELETE = prepared(sa.delete(jobs).where(_is_free).returning(jobs.c.id))
_STILL_HELD = sa.select(jobs.c.id).where(still_held_by_worker(_finished))


def plain_ends(finished: Sequence[FinishedJob], worker_id: int) -> list[Call]:
    """Return a statement for the jobs of each status that leave no details behind, and one for those to delete."""
    plain: dict[Status, list[FinishedJob]] = {}
    for job in finished:
        if not job.delete and not has_details(job):
            plain.setdefault(job.status, []).append(job)
    calls = [
        Call(_KEEP, write_columns(batch, _FINISHED_COLUMNS) | {"worker": worker_id, "new_status": status.value})
        for status, batch in plain.items()
    ]
    deleted = [job for job in finished if job.delete]
    if deleted:
        calls.append(Call(_DELETE, write_columns(deleted, _FINISHED_COLUMNS) | {"worker": worker_id}))
    return calls


def finish_jobs(connection: sa.Connection, finished: Sequence[FinishedJob], *, worker_id: int) -> set[int]:
    """Record the outcomes of jobs that this worker holds.

    One statement records those of each status, one those that are deleted, and one those that leave a return value or
    an error behind.

    Returns
    -------
    The ids that were recorded. An id that is missing was no longer this worker's (it was taken for dead and
    the job given to another), and its outcome is refused; or another session has its row locked just now.
    :func:`list_held_jobs` tells which.
    """
    recorded: set[int] = set()
    for statement, values in plain_ends(finished, worker_id):
        recorded |= set(connection.execute(statement, values).scalars())
    for batch in in_statements([job for job in finished if has_details(job)]):
        parameters: dict[str, Any] = transpose(batch, {**_FINISHED_COLUMNS, "status_text": Word()})
        parameters |= detail_parameters(batch)
        recorded |= set(connection.execute(_end_with_details(), parameters | {"worker": worker_id}).scalars())
    return recorded


def list_held_jobs(connection: sa.Connection, fetched: Sequence[FinishedJob], *, worker_id: int) -> set[int]:
    """Return those of the jobs that this worker still holds, in the attempt that they were fetched for."""
    parameters: dict[str, Any] = transpose(fetched, _FINISHED_COLUMNS)
    return set(connection.execute(_STILL_HELD, parameters | {"worker": worker_id}).scalars())


def finish_job_by_id(connection: sa.Connection, job_id: int, *, status: Status, delete: bool) -> bool:
    """Record the outcome of a waiting or running job, whichever worker holds it.

    Returns
    -------
    False if there is no such job, or if it has ended already.
    """
    active = sa.and_(jobs.c.id == sa.bindparam("job_id"), sa.or_(jobs.c.status == TODO, jobs.c.status == DOING))
    if delete:
        found = connection.execute(sa.delete(jobs).where(active).returning(jobs.c.id), {"job_id": job_id})
        return found.scalar_one_or_none() is not None
    statement = (
        sa.update(jobs)
        .where(active)
        .values(
            status=sa.cast(sa.bindparam("new_status", type_=sa.Text()), status_type),
            attempts=sa.case((jobs.c.status == DOING, one_more(jobs.c.attempts)), else_=jobs.c.attempts),
            abort_requested=False,
            finished_at=sa.func.now(),
            readiness=UNDECIDED,
        )
        .returning(jobs.c.id)
    )
    found = connection.execute(statement, {"job_id": job_id, "new_status": status.value})
    return found.scalar_one_or_none() is not None


def queueing_lock_on_return(place: sa.ColumnElement[int] | None = None) -> sa.ColumnElement[Any]:
    """Return the queueing lock with which a job goes back to wait: its own, or none where another job has taken it.

    So the retry is not lost, and neither is the job that waits. ``place`` numbers the jobs of one statement
    that share a queueing lock: only the first gets it back.
    """
    sibling = jobs.alias("sibling")
    taken = (
        sa.select(sibling.c.id)
        .where(sibling.c.queueing_lock == jobs.c.queueing_lock, holds_queueing_lock(sibling))
        .where(sibling.c.id != jobs.c.id)
        .exists()
    )
    lost = taken if place is None else sa.or_(place > 1, taken)
    return sa.case((lost, sa.null()), else_=jobs.c.queueing_lock)


_RETRY_COLUMNS: dict[str, TypeEngine[Any]] = {
    "id": sa.BigInteger(),
    "attempts": sa.Integer(),
    "retry_at": sa.DateTime(timezone=True),
    "retry_in": sa.Double(),
    "priority": sa.Integer(),
    "queue_name": sa.Text(),
    "lock": sa.Text(),
}


@functools.cache
def _retry_statement(*, keep_queueing_locks: bool, with_errors: bool) -> Any:
    retry = unnest({**_RETRY_COLUMNS, **(ERROR_COLUMNS if with_errors else {})}, name="retry")
    free = free_rows(retry, briefly=True)
    own = jobs.alias("own")
    placed = (
        sa.select(
            retry,
            sa.func.row_number()
            .over(partition_by=own.c.queueing_lock, order_by=(own.c.abort_requested, own.c.id))
            .label("place"),
        )
        .join(free, free.c.id == retry.c.id)
        .join(own, own.c.id == retry.c.id)
        .cte("placed")
    )
    failed = jobs.c.abort_requested
    wait = sa.func.make_interval(0, 0, 0, 0, 0, 0, sa.func.coalesce(placed.c.retry_in, 0.0), type_=sa.Interval())
    back = (
        sa.update(jobs)
        .where(jobs.c.id == placed.c.id)
        .values(
            status=sa.case((failed, status_literal(Status.FAILED)), else_=TODO),
            finished_at=sa.case((failed, sa.func.now()), else_=sa.null()),
            attempts=one_more(jobs.c.attempts),
            abort_requested=False,
            worker_id=None,
            readiness=UNDECIDED,
            scheduled_at=sa.func.coalesce(placed.c.retry_at, sa.func.now() + wait),
            priority=sa.func.coalesce(placed.c.priority, jobs.c.priority),
            queue_name=sa.func.coalesce(placed.c.queue_name, jobs.c.queue_name),
            lock=sa.func.coalesce(placed.c.lock, jobs.c.lock),
            queueing_lock=queueing_lock_on_return(placed.c.place) if keep_queueing_locks else sa.null(),
        )
        .returning(jobs.c.id, jobs.c.status)
    )
    if not with_errors:
        return back
    kept = [placed.c[name] for name in ERROR_COLUMNS]
    recorded = back.returning(jobs.c.attempts, *kept).cte("recorded")
    return sa.select(recorded.c.id, recorded.c.status).add_cte(keep_error(recorded, _WORKER))


def retry_jobs(
    connection: sa.Connection, retries: Sequence[JobRetry], *, worker_id: int, keep_queueing_locks: bool = True
) -> dict[int, Status]:
    """Send jobs that this worker holds back to wait, in one statement.

    A job whose abort was requested is not tried again and ends as failed. While a job ran, another one may have taken
    its queueing lock. The job then goes back without it. ``keep_queueing_locks=False`` sends all back without.

    Returns
    -------
    The status of each job that was recorded. A missing job is no longer this worker's, or another session has locked
    its row.

    A queueing lock that a user's open transaction has taken is waited for half a second, and is then
    :func:`~procrastinate.core.errors.is_lock_timeout`.

    A queueing lock that is taken at this very moment is a unique violation
    (:func:`~procrastinate.core.errors.is_unique_violation`): call again.
    """
    if not retries:
        return {}
    with_errors = any(retry.error is not None for retry in retries)
    parameters: dict[str, Any] = transpose(retries, _RETRY_COLUMNS)
    if with_errors:
        parameters |= error_parameters(retries)
    statement = _retry_statement(keep_queueing_locks=keep_queueing_locks, with_errors=with_errors)
    rows = connection.execute(statement, parameters | {"worker": worker_id})
    return {row.id: row.status for row in rows}


def _has_lively_worker() -> sa.Exists:
    return sa.select(workers.c.id).where(workers.c.id == jobs.c.worker_id, ~is_silent(STALLED_TIMEOUT)).exists()


_RETRY_BY_ID = (
    sa.update(jobs)
    .where(
        jobs.c.id == sa.bindparam("job_id"),
        sa.or_(
            jobs.c.status == status_literal(Status.FAILED),
            sa.and_(
                jobs.c.status == DOING,
                sa.or_(~sa.bindparam("spare_running", type_=sa.Boolean()), ~_has_lively_worker()),
            ),
        ),
    )
    .values(
        status=TODO,
        finished_at=None,
        attempts=sa.case((jobs.c.status == DOING, one_more(jobs.c.attempts)), else_=jobs.c.attempts),
        abort_requested=False,
        worker_id=None,
        readiness=UNDECIDED,
        rescues=0,
        scheduled_at=sa.func.coalesce(time_param("retry_at"), sa.func.now()),
        priority=sa.func.coalesce(sa.bindparam("new_priority", type_=sa.Integer()), jobs.c.priority),
        queue_name=sa.func.coalesce(sa.bindparam("new_queue", type_=sa.Text()), jobs.c.queue_name),
        lock=sa.func.coalesce(sa.bindparam("new_lock", type_=sa.Text()), jobs.c.lock),
        queueing_lock=queueing_lock_on_return(),
    )
    .returning(jobs.c.id)
)
_TRIES = 3


@atomic
def retry_job_by_id(
    connection: sa.Connection,
    job_id: int,
    *,
    retry_at: datetime.datetime | None = None,
    priority: int | None = None,
    queue_name: str | None = None,
    lock: str | None = None,
    spare_running: bool = False,
) -> bool:
    """Send a failed job, or a running one whose worker is lost, back to wait.

    Parameters
    ----------
    spare_running:
        Leave a running job alone while its worker is alive. Sent back, it would run twice at once. A worker is alive
        for as long as it says that it may be silent, and for at least half a minute.
    retry_at:
        When it may run again, an aware datetime; ``None`` for at once.

    Returns
    -------
    False where there is no such job, or it is neither failed nor running.
    """
    parameters = {
        "job_id": job_id,
        "spare_running": spare_running,
        "retry_at": retry_at,
        "new_priority": priority,
        "new_queue": queue_name,
        "new_lock": lock,
    }
    for attempt in range(1, _TRIES + 1):
        try:
            with connection.begin_nested():
                return connection.execute(_RETRY_BY_ID, parameters).scalar_one_or_none() is not None
        except Exception as error:
            # Another job took the queueing lock between the look and the write. It can be seen now.
            if attempt == _TRIES or not is_unique_violation(error):
                raise
    raise AssertionError("unreachable")
