"""The operations that forget: finished jobs, after some time; and, for tests, everything."""

from __future__ import annotations

import datetime
from collections.abc import Collection

import sqlalchemy as sa

from procrastinate.core.arrays import is_one_of
from procrastinate.core.enums import Status
from procrastinate.core.operation import atomic
from procrastinate.core.tables import jobs, metadata


def delete_finished_jobs(
    connection: sa.Connection,
    *,
    older_than: datetime.timedelta,
    statuses: Collection[Status],
    queue_name: str | None = None,
    limit: int = 1000,
) -> int:
    """Delete up to ``limit`` jobs that ended longer ago than ``older_than``, with their history.

    One short statement: call it until it returns less than ``limit``, so that no transaction is long.
    Jobs that another transaction holds are passed over.

    Parameters
    ----------
    statuses:
        Those of succeeded, failed, cancelled and aborted that are to go.

    Returns
    -------
    How many were deleted.
    """
    old = (
        sa.select(jobs.c.id)
        .where(
            jobs.c.status.in_(statuses),
            jobs.c.finished_at.is_not(None),
            jobs.c.finished_at < sa.func.now() - older_than,
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if queue_name is not None:
        old = old.where(jobs.c.queue_name == queue_name)
    statement = sa.delete(jobs).where(is_one_of(jobs.c.id, old))
    return connection.execute(statement).rowcount


@atomic
def delete_everything(connection: sa.Connection) -> None:
    """Delete all jobs, running ones too, all history, ticks and workers: for tests that commit."""
    for table in reversed(metadata.sorted_tables):
        connection.execute(sa.delete(table))
