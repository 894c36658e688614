"""Which workers wait for jobs. Only while one does, writers have to notify.

PostgreSQL lets one transaction that notifies commit at a time: sixteen writers at once then write half as many jobs.
A worker that has enough to do looks by itself, and nobody needs to call it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from procrastinate.core.records import Waiting
from procrastinate.core.tables import workers

_WORKER_ID = sa.bindparam("worker", type_=sa.BigInteger())
_CALLED_FOR = (
    sa.update(workers)
    .where(workers.c.id == _WORKER_ID)
    .values(called_for=sa.bindparam("queues", type_=ARRAY(sa.Text())))
    .returning(workers.c.id)
)


def _snapshot(bound: str) -> sa.ColumnElement[int]:
    """The number of a transaction that bounds those under way
    (https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT).
    """
    number: Any = getattr(sa.func, f"pg_snapshot_{bound}")(sa.func.pg_current_snapshot())
    return sa.cast(sa.cast(number, sa.Text), sa.BigInteger)


_NEXT_TRANSACTION = sa.select(_snapshot("xmax").label("next"), _snapshot("xmin").label("oldest"))
_OLDEST_TRANSACTION = sa.select(_snapshot("xmin"))


def start_waiting(connection: sa.Connection, *, worker_id: int, queues: Sequence[str] | None) -> bool:
    """Say that a worker waits for jobs of these queues (``None``: of all): writers notify once this is committed.

    Returns
    -------
    False where it is not registered.
    """
    parameters = {"worker": worker_id, "queues": [] if queues is None else list(queues)}
    return connection.execute(_CALLED_FOR, parameters).scalar_one_or_none() is not None


def read_unaware(connection: sa.Connection) -> Waiting:
    """Which transactions may have looked before now, and so will not notify: the worker has to look for their jobs
    itself, until they have ended. To be asked after the commit of :func:`start_waiting`, in another transaction.
    """
    row = connection.execute(_NEXT_TRANSACTION).one()
    return Waiting(unaware_before=row.next, is_settled=row.oldest >= row.next)


def stop_waiting(connection: sa.Connection, *, worker_id: int) -> None:
    """Say that a worker looks for jobs by itself: nobody needs to notify it of any."""
    connection.execute(_CALLED_FOR, {"worker": worker_id, "queues": None})


def have_ended_before(connection: sa.Connection, *, transaction: int) -> bool:
    """Whether all transactions have ended that are older than the one of this number."""
    return connection.execute(_OLDEST_TRANSACTION).scalar_one() >= transaction
