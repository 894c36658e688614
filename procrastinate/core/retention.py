"""The operations that forget: finished jobs, after some time; and, for tests, everything."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection

import sqlalchemy as sa

from procrastinate.core.arrays import is_one_of
from procrastinate.core.enums import Status
from procrastinate.core.operation import atomic
from procrastinate.core.tables import jobs, metadata, status_literal


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DeletionPlace:
    """Where a deletion goes on: the status of the last deleted job, and its end as PostgreSQL writes it."""

    status: Status
    finished_at: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Deletion:
    """How many jobs a statement deleted, and the place of the last of them; ``None`` if it deleted none."""

    count: int
    last: DeletionPlace | None


def delete_finished_part(
    connection: sa.Connection,
    *,
    older_than: datetime.timedelta,
    statuses: Collection[Status],
    queue_name: str | None = None,
    limit: int = 1000,
    after: DeletionPlace | None = None,
) -> Deletion:
    """Delete up to ``limit`` jobs that ended longer ago than ``older_than``, with their history.

    One short statement: call it until it deletes less than ``limit``, so that no transaction is long.
    It passes over jobs that another transaction holds.

    Parameters
    ----------
    statuses:
        Those of succeeded, failed, cancelled and aborted that are to go.
    after:
        The ``last`` of the deletion before. Without it, a deletion walks over all that vacuum cannot clean yet.
    """
    # Along the index of finished jobs: literal statuses keep the question inside it, and the order stops at the limit.
    old = (
        sa.select(jobs.c.id)
        .where(
            jobs.c.status.in_([status_literal(status) for status in statuses]),
            jobs.c.finished_at.is_not(None),
            jobs.c.finished_at < sa.func.now() - older_than,
        )
        .order_by(jobs.c.status, jobs.c.finished_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if queue_name is not None:
        old = old.where(jobs.c.queue_name == queue_name)
    if after is not None:
        place = sa.tuple_(status_literal(after.status), sa.cast(after.finished_at, jobs.c.finished_at.type))
        old = old.where(sa.tuple_(jobs.c.status, jobs.c.finished_at) >= place)
    deleted = (
        sa.delete(jobs).where(is_one_of(jobs.c.id, old)).returning(jobs.c.status, jobs.c.finished_at).cte("deleted")
    )
    status, finished_at = deleted.c
    last = (
        sa.select(sa.func.count().over(), status, sa.cast(finished_at, sa.Text))
        .order_by(status.desc(), finished_at.desc())
        .limit(1)
    )
    row = connection.execute(last).one_or_none()
    if row is None:
        return Deletion(count=0, last=None)
    return Deletion(count=row[0], last=DeletionPlace(status=row[1], finished_at=row[2]))


def delete_finished_jobs(
    connection: sa.Connection,
    *,
    older_than: datetime.timedelta,
    statuses: Collection[Status],
    queue_name: str | None = None,
    limit: int = 1000,
) -> int:
    """Delete as :func:`delete_finished_part` does, from the start, and return how many jobs are gone."""
    return delete_finished_part(
        connection, older_than=older_than, statuses=statuses, queue_name=queue_name, limit=limit
    ).count


@atomic
def delete_everything(connection: sa.Connection) -> None:
    """Delete all jobs, running ones too, all history, ticks and workers: for tests that commit."""
    for table in reversed(metadata.sorted_tables):
        connection.execute(sa.delete(table))
