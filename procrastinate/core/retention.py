"""Operations that delete finished jobs and, for tests, everything."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import is_not_set_aside, is_one_of
from procrastinate.core.criteria import equals
from procrastinate.core.enums import Status
from procrastinate.core.operation_marks import atomic, finds_first_row_of
from procrastinate.core.tables import jobs, metadata, status_literal

_LOOKED_AT = 20
"""Jobs of all queues that a deletion from one queue examines, as a multiple of ``limit``: no index has the queue."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DeletionPlace:
    """Position where a deletion continues: status and end (ISO 8601) of the last examined job.

    ``window`` is the number of jobs that the next statement examines, as a multiple of ``limit``. It grows while all
    examined jobs ended at ``finished_at``: one statement of the user may have ended a million jobs of another queue.
    """

    status: Status
    finished_at: str
    window: int = _LOOKED_AT


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Deletion:
    """Number of jobs that a statement deleted, and the position of the next statement (``None`` at the end)."""

    count: int
    next_place: DeletionPlace | None


def delete_finished_part(
    connection: sa.Connection,
    *,
    older_than: datetime.timedelta,
    statuses: Collection[Status],
    queue_name: str | None = None,
    limit: int = 1000,
    after: DeletionPlace | None = None,
    set_aside: Sequence[int] = (),
) -> Deletion:
    """Delete up to ``limit`` jobs that ended longer ago than ``older_than``, with their history.

    This is one short statement. Repeat it until ``next_place`` is ``None``, so that no transaction is long. It skips
    locked rows, and the jobs of workflows, which :func:`~procrastinate.core.delete_workflows.delete_old_workflows`
    deletes as a whole.

    Parameters
    ----------
    statuses:
        The statuses to delete: succeeded, failed, cancelled or aborted.
    queue_name:
        Delete only jobs of this queue. A statement may then delete nothing and still return a ``next_place``.
    after:
        The ``next_place`` of the previous deletion. Without it, a deletion walks over all rows that vacuum cannot
        remove yet.
    set_aside:
        Ids of jobs to keep.
    """
    old = _old_jobs(older_than, statuses, after, set_aside)
    if queue_name is None:
        return _delete(connection, _locked(old.limit(limit)), limit)
    window = _LOOKED_AT if after is None else after.window
    seen = old.add_columns(jobs.c.queue_name).limit(limit * window).cte("seen")
    of_queue = sa.select(jobs.c.id).where(
        is_one_of(jobs.c.id, sa.select(seen.c.id).where(equals(seen.c.queue_name, queue_name)).limit(limit))
    )
    return _past(after, _delete(connection, _locked(of_queue), limit, seen, window))


@finds_first_row_of(delete_finished_part)
def first_finished_job(
    connection: sa.Connection,
    *,
    older_than: datetime.timedelta,
    statuses: Collection[Status],
    queue_name: str | None = None,
    after: DeletionPlace | None = None,
    set_aside: Sequence[int] = (),
) -> int | None:
    """Return the id of the job that :func:`delete_finished_part` would delete first, or ``None``."""
    old = _old_jobs(older_than, statuses, after, set_aside)
    if queue_name is not None:
        old = old.where(equals(jobs.c.queue_name, queue_name))
    return connection.execute(_locked(old.limit(1))).scalars().first()


def _past(after: DeletionPlace | None, deletion: Deletion) -> Deletion:
    """Double the window of the next statement if this one deleted nothing and made no progress."""
    place = deletion.next_place
    if after is None or place is None or deletion.count:
        return deletion
    if (place.status, place.finished_at) != (after.status, after.finished_at):
        return deletion
    wider = dataclasses.replace(place, window=after.window * 2)
    return dataclasses.replace(deletion, next_place=wider)


def _old_jobs(
    older_than: datetime.timedelta,
    statuses: Collection[Status],
    after: DeletionPlace | None,
    set_aside: Sequence[int],
) -> sa.Select[Any]:
    """Return a walk along the index of finished jobs. Literal statuses keep it on the index, and a limit stops it."""
    old = (
        sa.select(jobs.c.id, jobs.c.status, jobs.c.finished_at)
        .where(
            jobs.c.status.in_([status_literal(status) for status in statuses]),
            jobs.c.finished_at.is_not(None),
            jobs.c.finished_at < sa.func.now() - older_than,
            jobs.c.workflow_id.is_(None),
        )
        .order_by(jobs.c.status, jobs.c.finished_at)
    )
    if set_aside:
        old = old.where(is_not_set_aside(jobs.c.id)).params(set_aside=list(set_aside))
    if after is None:
        return old
    place = sa.tuple_(status_literal(after.status), _as_time(after.finished_at))
    return old.where(sa.tuple_(jobs.c.status, jobs.c.finished_at) >= place)


def _locked(chosen: sa.Select[Any]) -> sa.Select[Any]:
    return chosen.with_only_columns(jobs.c.id).with_for_update(of=jobs, skip_locked=True)


def _delete(
    connection: sa.Connection, chosen: sa.Select[Any], limit: int, seen: sa.CTE | None = None, window: int = 0
) -> Deletion:
    """Delete the chosen jobs. The next place is the last deleted or the last examined job."""
    deleted = (
        sa.delete(jobs).where(is_one_of(jobs.c.id, chosen)).returning(jobs.c.status, jobs.c.finished_at).cte("deleted")
    )
    status, finished_at = deleted.c
    last = (
        sa.select(sa.func.count().over(), status, _iso(finished_at))
        .order_by(status.desc(), finished_at.desc())
        .limit(1)
        .subquery("last")
    )
    if seen is None:
        row = connection.execute(sa.select(last)).one_or_none()
        if row is None:
            return Deletion(count=0, next_place=None)
        return Deletion(count=row[0], next_place=_place(row[1:]) if row[0] == limit else None)
    # The rows are in order, so the last one exists only if the window was full.
    last_seen = (
        sa.select(seen.c.status, _iso(seen.c.finished_at)).offset(limit * window - 1).limit(1).subquery("last_seen")
    )
    both = sa.select(sa.literal_column("1")).subquery("both").outerjoin(last, sa.true()).outerjoin(last_seen, sa.true())
    count, *places = connection.execute(sa.select(last, last_seen).select_from(both)).one()
    return Deletion(count=count or 0, next_place=_place(places[:2] if count == limit else places[2:]))


def _iso(time: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """Return a time in ISO 8601, whatever the DateStyle: PostgreSQL could not parse an abbreviated time zone."""
    return sa.func.trim(sa.cast(sa.func.to_json(time), sa.Text), '"')


def _as_time(iso: str) -> sa.ColumnElement[Any]:
    """Parse the output of :func:`_iso`. The value travels as text, because asyncpg accepts no text for a time."""
    return sa.cast(sa.literal(iso, sa.Text()), jobs.c.finished_at.type)


def _place(columns: Sequence[Any]) -> DeletionPlace | None:
    status, finished_at = columns
    return None if status is None else DeletionPlace(status=status, finished_at=finished_at)


def delete_finished_jobs(
    connection: sa.Connection,
    *,
    older_than: datetime.timedelta,
    statuses: Collection[Status],
    queue_name: str | None = None,
    limit: int = 1000,
) -> int:
    """Delete as :func:`delete_finished_part` does, from the start, and return the number of deleted jobs."""
    after: DeletionPlace | None = None
    while True:
        deletion = delete_finished_part(
            connection, older_than=older_than, statuses=statuses, queue_name=queue_name, limit=limit, after=after
        )
        after = deletion.next_place
        if deletion.count or after is None:
            return deletion.count


@atomic
def delete_everything(connection: sa.Connection) -> None:
    """Delete all jobs (running ones too), all history, ticks and workers, for tests that commit."""
    for table in reversed(metadata.sorted_tables):
        connection.execute(sa.delete(table))
