"""Which workers wait for jobs. Only while one does, writers have to notify.

PostgreSQL lets one transaction that notifies commit at a time: sixteen writers at once then write half as many jobs.
A worker that has enough to do looks by itself, and needs no call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import array_param, write_array
from procrastinate.core.operation_marks import prepared
from procrastinate.core.rows import Waiting
from procrastinate.core.tables import jobs, workers

_WORKER_ID = sa.bindparam("worker", type_=sa.BigInteger())
_CALLED_FOR = prepared(
    sa.update(workers)
    .where(workers.c.id == _WORKER_ID)
    .values(called_for=array_param("called_queues", sa.Text()))
    .returning(workers.c.id)
)


def _number(transaction: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """Return the number of a transaction (https://www.postgresql.org/docs/current/functions-info.html)."""
    return sa.cast(sa.cast(transaction, sa.Text), sa.BigInteger)


_OLDEST = _number(sa.func.pg_snapshot_xmin(sa.func.pg_current_snapshot()))
_OWN_TRANSACTION = prepared(sa.select(_number(sa.func.pg_current_xact_id()).label("own"), _OLDEST.label("oldest")))
_OLDEST_TRANSACTION = prepared(sa.select(_OLDEST.label("oldest")))


def start_waiting(connection: sa.Connection, *, worker_id: int, queues: Sequence[str] | None) -> bool:
    """Say that a worker waits for jobs of these queues (``None``: of all): writers notify once this is committed.

    Returns
    -------
    False where it is not registered.
    """
    parameters = {"worker": worker_id, "called_queues": write_array(queues or [], sa.Text())}
    return connection.execute(_CALLED_FOR, parameters).scalar_one_or_none() is not None


def read_unaware(connection: sa.Connection) -> Waiting:
    """Return the transactions that may have looked before now, and so will not notify. The worker has to look for
    their jobs itself until they have ended. Call it after the commit of :func:`start_waiting`, in another transaction.

    A transaction that has looked already has a number below the one that is given out here. (The end of a snapshot is
    no such bound: it is the number after the last transaction that has *ended*.)
    """
    own, oldest = connection.execute(_OWN_TRANSACTION).one()
    return Waiting(unaware_before=own, is_settled=oldest >= own)


def stop_waiting(connection: sa.Connection, *, worker_id: int) -> None:
    """Say that a worker looks for jobs by itself, and needs no notification."""
    connection.execute(_CALLED_FOR, {"worker": worker_id, "called_queues": None})


def have_ended_before(connection: sa.Connection, *, transaction: int) -> bool:
    """Return whether all transactions have ended that are older than the one of this number."""
    return connection.execute(_OLDEST_TRANSACTION).scalar_one() >= transaction


_CALL_ALL = prepared(
    sa.select(
        sa.func.procrastinate_notify_waiting(
            sa.cast(jobs.c.queue_name, sa.Text()), jobs.c.id, sa.true(), sa.null(), type_=sa.Text()
        ).label("nothing")
    ).where(jobs.c.id == sa.bindparam("job_id", type_=sa.BigInteger()))
)


def call_all_workers(connection: sa.Connection, *, job_id: int) -> None:
    """Notify all workers that wait for jobs of this job's queue: the one that was named for it has no room."""
    connection.execute(_CALL_ALL, {"job_id": job_id})
