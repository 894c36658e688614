"""Operations on the jobs of dead workers: list and rescue them."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.core.arguments import shown
from procrastinate.core.arrays import array_param, is_not_set_aside
from procrastinate.core.criteria import equals
from procrastinate.core.dead_workers import is_orphaned, is_silent
from procrastinate.core.enums import EventType, Status
from procrastinate.core.fetch import LARGEST_EXTRA, STORED_COLUMNS, stored_job
from procrastinate.core.finish import queueing_lock_on_return
from procrastinate.core.lock_timeouts import waits_briefly
from procrastinate.core.operation_marks import finds_first_row_of
from procrastinate.core.rows import RescuedJob, StoredJob
from procrastinate.core.tables import (
    DOING,
    TODO,
    UNDECIDED,
    events,
    jobs,
    one_more,
    status_literal,
    workers,
)
from procrastinate.core.write_results import keep_error

_WORKER_ID = sa.bindparam("worker", type_=sa.BigInteger())


def list_stalled_jobs(
    connection: sa.Connection,
    *,
    seconds_since_heartbeat: float,
    queue_name: str | None = None,
    task_name: str | None = None,
) -> list[StoredJob]:
    """Return running jobs whose worker is gone or has sent no heartbeat for ``seconds_since_heartbeat``.

    A worker's own ``stalled_timeout`` applies if it is longer.
    """
    alive = sa.select(workers.c.id).where(workers.c.id == jobs.c.worker_id, ~is_silent(seconds_since_heartbeat))
    return _list_doing(connection, ~alive.exists(), queue_name, task_name)


def list_jobs_started_before(
    connection: sa.Connection, *, seconds: float, queue_name: str | None = None, task_name: str | None = None
) -> list[StoredJob]:
    """Return running jobs that started more than ``seconds`` ago, whatever the state of their worker."""
    started = (
        sa.select(sa.func.max(events.c.at))
        .where(events.c.job_id == jobs.c.id, events.c.type == EventType.STARTED)
        .scalar_subquery()
    )
    long_ago = started < sa.func.now() - datetime.timedelta(seconds=seconds)
    return _list_doing(connection, long_ago, queue_name, task_name)


def _list_doing(
    connection: sa.Connection, condition: sa.ColumnElement[bool], queue_name: str | None, task_name: str | None
) -> list[StoredJob]:
    statement = sa.select(*STORED_COLUMNS).where(jobs.c.status == DOING, condition).order_by(jobs.c.id)
    if queue_name is not None:
        statement = statement.where(equals(jobs.c.queue_name, queue_name))
    if task_name is not None:
        statement = statement.where(equals(jobs.c.task_name, task_name))
    return [stored_job(row) for row in connection.execute(statement)]


_LOST = jobs.alias("lost")


def _lost_runs(is_lost: sa.ColumnElement[bool]) -> sa.CTE:
    """Return the lost runs by job, worker and attempt, as the statement's snapshot shows them."""
    return (
        sa.select(_LOST.c.id, _LOST.c.worker_id, _LOST.c.attempts)
        .where(_LOST.c.status == DOING, is_lost, waits_briefly())
        .cte("seen")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )


def _stalled(is_lost: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Lock the runs that the statement's snapshot shows, and no others.

    Another rescuer may have been faster, and a live worker may have claimed the job since. PostgreSQL then rechecks the
    current row, but not whether the row's worker is registered.
    """
    max_rescues = sa.bindparam("max_rescues", type_=sa.Integer())
    seen = _lost_runs(is_lost)
    held = jobs.alias("held")
    is_that_run = sa.and_(
        held.c.id == seen.c.id,
        held.c.status == DOING,
        held.c.attempts == seen.c.attempts,
        held.c.worker_id.is_not_distinct_from(seen.c.worker_id),
    )
    return (
        sa.select(
            held.c.id,
            held.c.queueing_lock,
            held.c.worker_id,
            sa.or_(held.c.abort_requested, held.c.rescues >= max_rescues).label("ended"),
        )
        .join(seen, is_that_run)
        .order_by(held.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer()))
        .with_for_update(of=held, skip_locked=True)
    )


def _rescue_statement(is_lost: sa.ColumnElement[bool], why: str, *, keep_queueing_locks: bool) -> sa.Select[Any]:
    stalled = _stalled(is_lost).cte("stalled").prefix_with("MATERIALIZED", dialect="postgresql")
    placed = sa.select(
        stalled.c.id,
        stalled.c.ended,
        stalled.c.worker_id,
        sa.func.row_number()
        .over(partition_by=stalled.c.queueing_lock, order_by=(stalled.c.ended, stalled.c.id))
        .label("place"),
    ).cte("placed")
    rescued = (
        sa.update(jobs)
        .where(jobs.c.id == placed.c.id)
        .values(
            status=sa.case(
                (jobs.c.abort_requested, status_literal(Status.ABORTED)),
                (placed.c.ended, status_literal(Status.FAILED)),
                else_=TODO,
            ),
            finished_at=sa.case((placed.c.ended, sa.func.now()), else_=sa.null()),
            attempts=one_more(jobs.c.attempts),
            rescues=one_more(jobs.c.rescues),
            abort_requested=False,
            worker_id=None,
            readiness=UNDECIDED,
            queueing_lock=queueing_lock_on_return(placed.c.place) if keep_queueing_locks else sa.null(),
        )
        .returning(
            jobs.c.id,
            jobs.c.queue_name,
            jobs.c.task_name,
            jobs.c.status,
            jobs.c.attempts,
            placed.c.worker_id,
            shown(jobs.c.trace_context, LARGEST_EXTRA).label("trace_context"),
            *lost_run(why),
        )
        .cte("rescued")
    )
    found = sa.select(*(rescued.c[field.name] for field in dataclasses.fields(RescuedJob)))
    return found.add_cte(keep_error(rescued, rescued.c.worker_id))


def lost_run(why: str) -> list[sa.ColumnElement[str]]:
    """Return the error to store for an attempt that a dead worker left unfinished."""
    error = exceptions.WorkerLost(why)
    path = f"{type(error).__module__}.{type(error).__qualname__}"
    texts = {"exception_class": path, "message": why, "traceback": f"{path}: {why}\n"}
    return [sa.literal(text, sa.Text).label(name) for name, text in texts.items()]


_IN_PLAY = is_not_set_aside(_LOST.c.id)
_IS_ORPHANED = sa.and_(is_orphaned(_LOST), _IN_PLAY)
_IS_UNKNOWN = sa.and_(
    _LOST.c.worker_id == _WORKER_ID, _LOST.c.id != sa.all_(array_param("known", sa.BigInteger())), _IN_PLAY
)


# Rescues are rare, and building these statements took 30 ms of each worker's start.
@functools.cache
def _rescue_orphaned(*, keep_queueing_locks: bool) -> sa.Select[Any]:
    why = "The worker of the job is gone: it died or sent no heartbeat for too long"
    return _rescue_statement(_IS_ORPHANED, why, keep_queueing_locks=keep_queueing_locks)


@functools.cache
def _return_unknown(*, keep_queueing_locks: bool) -> sa.Select[Any]:
    why = "The answer to the job's fetch was lost on its way to the worker: the job did not run"
    return _rescue_statement(_IS_UNKNOWN, why, keep_queueing_locks=keep_queueing_locks)


@functools.cache
def _first_orphaned() -> sa.Select[Any]:
    return _stalled(_IS_ORPHANED)


@functools.cache
def _first_unknown() -> sa.Select[Any]:
    return _stalled(_IS_UNKNOWN)


def rescue_jobs(
    connection: sa.Connection,
    *,
    max_rescues: int,
    limit: int = 500,
    set_aside: Sequence[int] = (),
    keep_queueing_locks: bool = True,
) -> list[RescuedJob]:
    """Rescue up to ``limit`` running jobs whose worker is not registered, in one statement.

    Jobs of :data:`~procrastinate.core.dead_workers.LEFT_BEHIND`, and those of ``set_aside``, stay as they are.

    The jobs wait again, with one more attempt. A job with an abort request ends as aborted. A job with ``max_rescues``
    earlier rescues ends as failed, because it would keep killing its workers.

    A queueing lock that another session takes at the same moment raises a unique violation
    (:func:`~procrastinate.core.errors.is_unique_violation`). Call again then. A lock that an open transaction has taken
    raises a lock timeout after half a second (:func:`~procrastinate.core.errors.is_lock_timeout`).
    ``keep_queueing_locks=False`` rescues all jobs without their queueing locks.
    """
    parameters = {"max_rescues": max_rescues, "limit": limit, "set_aside": list(set_aside)}
    statement = _rescue_orphaned(keep_queueing_locks=keep_queueing_locks)
    return [RescuedJob(**row._mapping) for row in connection.execute(statement, parameters)]


@finds_first_row_of(rescue_jobs)
def first_orphaned_job(connection: sa.Connection, *, max_rescues: int, set_aside: Sequence[int] = ()) -> int | None:
    """Return the id of the job that :func:`rescue_jobs` would rescue first, or ``None``."""
    parameters = {"max_rescues": max_rescues, "limit": 1, "set_aside": list(set_aside)}
    return connection.execute(_first_orphaned(), parameters).scalars().first()


def return_unknown_jobs(
    connection: sa.Connection,
    *,
    worker_id: int,
    known_ids: Collection[int],
    max_rescues: int,
    limit: int = 500,
    set_aside: Sequence[int] = (),
    keep_queueing_locks: bool = True,
) -> list[RescuedJob]:
    """Return jobs to the queue that the database assigns to a worker but the worker does not know.

    This happens if a fetch commits and its answer is lost. Everything else is as in :func:`rescue_jobs`.

    Parameters
    ----------
    known_ids:
        The worker's jobs, including finished jobs without a recorded outcome.
    """
    parameters = _of_unknown(worker_id, known_ids, max_rescues, limit, set_aside)
    statement = _return_unknown(keep_queueing_locks=keep_queueing_locks)
    return [RescuedJob(**row._mapping) for row in connection.execute(statement, parameters)]


@finds_first_row_of(return_unknown_jobs)
def first_unknown_job(
    connection: sa.Connection,
    *,
    worker_id: int,
    known_ids: Collection[int],
    max_rescues: int,
    set_aside: Sequence[int] = (),
) -> int | None:
    """Return the id of the job that :func:`return_unknown_jobs` would return first, or ``None``."""
    return (
        connection.execute(_first_unknown(), _of_unknown(worker_id, known_ids, max_rescues, 1, set_aside))
        .scalars()
        .first()
    )


def _of_unknown(
    worker_id: int, known_ids: Collection[int], max_rescues: int, limit: int, set_aside: Sequence[int]
) -> dict[str, Any]:
    return {
        "worker": worker_id,
        "known": list(known_ids),
        "max_rescues": max_rescues,
        "limit": limit,
        "set_aside": list(set_aside),
    }
