"""Find workers whose heartbeats have stopped, and remove them.

:mod:`~procrastinate.core.heartbeats` has the other side. :mod:`~procrastinate.core.rescue` returns the jobs of workers
that were removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from procrastinate.core.arrays import is_not_set_aside, is_one_of, transpose, unnest
from procrastinate.core.defaults import LONGEST
from procrastinate.core.operation_marks import finds_first_row_of, prepared
from procrastinate.core.rows import LateWorker
from procrastinate.core.tables import DOING, jobs, workers
from procrastinate.core.watchers import CLOCK_SET_BACK, LATE, age, epoch

LEFT_BEHIND = 0
"""A number that no worker has. A running job with this number was left behind by Procrastinate 3.x: its worker is gone,
and the user has not decided what to do with the job."""
DECIDE_ON_LEFT_BEHIND = "procrastinate schema --apply --orphans=retry, or --orphans=fail"

EVIDENCE_HOLDS_FOR = 5.0
"""Seconds for which a look is good enough to remove a worker. A statement that arrives later was held up on its way,
and heartbeats that would contradict it may have been held up, too."""

_WORKER_ID = sa.bindparam("worker", type_=sa.BigInteger())


def is_orphaned(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition "no worker is registered that runs this job". It is false for jobs that 3.x left behind."""
    worker = sa.select(workers.c.id).where(workers.c.id == table.c.worker_id)
    return sa.and_(~worker.exists(), table.c.worker_id.is_distinct_from(sa.literal_column(str(LEFT_BEHIND))))


def _term(said: sa.ColumnElement[float]) -> sa.ColumnElement[float]:
    """Return what a worker says, or NULL if that is not a number of seconds, or is over a hundred years.

    The watcher's own terms then apply. Any role that may write to the table can store NaN, infinity or 1e308.
    """
    return sa.case((sa.and_(said > 0, said <= LONGEST), said))


def is_silent(seconds: float) -> sa.ColumnElement[bool]:
    """Return whether the worker has been silent for longer than these seconds, and for longer than its own timeout."""
    longest = sa.func.greatest(_term(workers.c.stalled_timeout), sa.cast(seconds, sa.Double()))
    return age(workers.c.last_heartbeat) > longest


def _silent(seconds: float, limit: int, set_aside: Sequence[int]) -> sa.Select[Any]:
    chosen = sa.select(workers.c.id).where(is_silent(seconds), is_not_set_aside(workers.c.id))
    return chosen.order_by(workers.c.id).limit(limit).with_for_update().params(set_aside=list(set_aside))


def prune_stalled_workers(
    connection: sa.Connection, *, seconds_since_heartbeat: float, limit: int = 1000, set_aside: Sequence[int] = ()
) -> list[int]:
    """Remove up to ``limit`` workers that have been silent for longer than these seconds, and return their ids.

    A worker whose own timeout is longer stays. This function decides by a single look. Workers watch each other over
    several looks instead, with :func:`list_late_workers` and :func:`remove_dead_workers`.
    """
    chosen = _silent(seconds_since_heartbeat, limit, set_aside)
    statement = sa.delete(workers).where(is_one_of(workers.c.id, chosen)).returning(workers.c.id)
    return list(connection.execute(statement).scalars())


@finds_first_row_of(prune_stalled_workers)
def first_stalled_worker(
    connection: sa.Connection, *, seconds_since_heartbeat: float, set_aside: Sequence[int] = ()
) -> int | None:
    """Return the id of the worker that :func:`prune_stalled_workers` would remove first, or ``None``."""
    return connection.execute(_silent(seconds_since_heartbeat, 1, set_aside)).scalars().first()


def _late_workers_statement() -> sa.Select[Any]:
    interval = sa.func.coalesce(_term(workers.c.heartbeat_interval), sa.bindparam("interval", type_=sa.Double()))
    timeout = sa.func.coalesce(_term(workers.c.stalled_timeout), sa.bindparam("timeout", type_=sa.Double()))
    has_jobs = sa.select(jobs.c.id).where(jobs.c.worker_id == workers.c.id, jobs.c.status == DOING).exists()
    return (
        sa.select(
            workers.c.id,
            sa.cast(epoch(workers.c.last_heartbeat), sa.Text()).label("heartbeat"),
            age(workers.c.last_heartbeat).label("age"),
            interval.label("heartbeat_interval"),
            timeout.label("stalled_timeout"),
            has_jobs.label("has_jobs"),
            sa.cast(epoch(sa.func.now()), sa.Double()).label("seen_at"),
        )
        .where(
            workers.c.id != _WORKER_ID,
            sa.or_(age(workers.c.last_heartbeat) > interval * LATE, age(workers.c.last_heartbeat) < CLOCK_SET_BACK),
        )
        .order_by(workers.c.id)
    )


_LATE_WORKERS = prepared(_late_workers_statement())


def list_late_workers(
    connection: sa.Connection, *, worker_id: int, heartbeat_interval: float, stalled_timeout: float
) -> list[LateWorker]:
    """Return the other workers whose heartbeat is late, or has a time in the future.

    Parameters
    ----------
    worker_id:
        The worker that looks.
    heartbeat_interval, stalled_timeout:
        Seconds that apply to workers whose rows do not have their own.
    """
    values = {"worker": worker_id, "interval": heartbeat_interval, "timeout": stalled_timeout}
    return [LateWorker(**row._mapping) for row in connection.execute(_LATE_WORKERS, values)]


_DEAD_COLUMNS: dict[str, TypeEngine[Any]] = {"id": sa.BigInteger(), "heartbeat": sa.Text(), "seen_at": sa.Double()}
_dead = unnest(_DEAD_COLUMNS, name="dead")
_free = (
    sa.select(workers.c.id)
    .where(
        workers.c.id == _dead.c.id,
        sa.cast(epoch(workers.c.last_heartbeat), sa.Text()) == _dead.c.heartbeat,
        epoch(sa.func.clock_timestamp()) - _dead.c.seen_at < EVIDENCE_HOLDS_FOR,
    )
    .with_for_update(of=workers, skip_locked=True)
    .cte("free")
    .prefix_with("MATERIALIZED", dialect="postgresql")
)
_REMOVE_DEAD = sa.delete(workers).where(workers.c.id == _free.c.id).returning(workers.c.id)


def remove_dead_workers(connection: sa.Connection, dead: Sequence[LateWorker]) -> list[int]:
    """Remove workers that were watched and found dead, and return the ids of those that were removed.

    A worker stays if it has sent a heartbeat since it was last seen, or if its row is locked. All workers stay if the
    statement is executed more than :data:`EVIDENCE_HOLDS_FOR` seconds after that look, by the database's clock.
    """
    return list(connection.execute(_REMOVE_DEAD, transpose(dead, _DEAD_COLUMNS)).scalars())
