"""Safety net under the triggers: free orphaned parked jobs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import is_not_set_aside, is_one_of, write_array
from procrastinate.core.operation_marks import finds_first_row_of, plain
from procrastinate.core.pauses import is_open
from procrastinate.core.served_queues import may_have_slot
from procrastinate.core.tables import UNDECIDED, holds_lock, is_parked, jobs
from procrastinate.core.verdicts import first_parked


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """Result of one step of the sweep: the number of freed jobs, and the lock at which the next step starts.

    ``reached`` is ``None`` at the end: the next step starts from the beginning.
    """

    unparked: int
    reached: str | None


@functools.cache
def _walk_and_orphans() -> tuple[sa.CTE, sa.Select[Any]]:
    """Return a walk over the locks with parked jobs, and the first job that may go on of each lock without a holder.

    It walks from lock to lock through the index of parked jobs, one probe each, and probes one lock more than the
    limit, so a step always makes progress. The limit counts orphans, too. It locks only the jobs behind free locks: a
    trigger that frees the next job of a held lock at this very moment would skip a locked row.
    """
    parked = jobs.alias("parked")
    start = sa.select(
        sa.select(sa.func.min(parked.c.lock))
        .where(is_parked(parked), parked.c.lock >= sa.bindparam("start", type_=sa.Text()))
        .scalar_subquery()
        .label("lock"),
        sa.literal_column("1", type_=sa.Integer()).label("step"),
    )
    walk = start.cte("walk", recursive=True)
    further = jobs.alias("further")
    following = (
        sa.select(sa.func.min(further.c.lock)).where(is_parked(further), further.c.lock > walk.c.lock).scalar_subquery()
    )
    walk = walk.union_all(
        sa.select(following, walk.c.step + 1).where(
            walk.c.lock.is_not(None), walk.c.step <= sa.bindparam("limit", type_=sa.Integer())
        )
    )
    holder = jobs.alias("holder")
    held = sa.select(holder.c.id).where(holder.c.lock == walk.c.lock, holds_lock(holder)).exists()
    free = sa.select(walk.c.lock).where(~held).cte("free").prefix_with("MATERIALIZED", dialect="postgresql")
    head = first_parked(free.c.lock, is_open, may_have_slot, lambda table: is_not_set_aside(table.c.id))
    limit = sa.bindparam("limit", type_=sa.Integer())
    return walk, sa.select(head.c.id).select_from(free.join(head, sa.true())).order_by(free.c.lock).limit(limit)


def _sweep_statement() -> sa.Select[Any]:
    walk, orphans = _walk_and_orphans()
    orphan = orphans.cte("orphan")
    freed = (
        sa.update(jobs).where(jobs.c.id == orphan.c.id).values(readiness=UNDECIDED).returning(jobs.c.id).cte("freed")
    )
    return sa.select(
        sa.select(sa.func.count()).select_from(freed).scalar_subquery().label("unparked"),
        sa.func.max(walk.c.lock).label("reached"),
        sa.func.count(walk.c.lock).label("locks"),
    )


_SWEEP = plain(_sweep_statement())


def sweep_parked_jobs(
    connection: sa.Connection, *, start: str | None = None, limit: int = 1000, set_aside: Sequence[int] = ()
) -> Sweep:
    """Examine up to ``limit`` locks with parked jobs, and free the first job of each lock without a holder.

    The triggers free the next job whenever a holder leaves. This function covers what triggers miss: an open
    transaction had locked the next job's row at that moment, or the triggers were off.

    Parameters
    ----------
    start:
        The lock to start from: ``reached`` of the previous step, ``None`` for the beginning.
    set_aside:
        Ids of jobs to pass over. The next job of the lock is freed instead.
    """
    parameters = {"start": start or "", "limit": limit, "set_aside": write_array(set_aside, sa.BigInteger())}
    row = connection.execute(_SWEEP, parameters).one()
    return Sweep(unparked=row.unparked, reached=row.reached if row.locks > limit else None)


@finds_first_row_of(sweep_parked_jobs)
def first_orphaned_parked_job(
    connection: sa.Connection, *, start: str | None = None, set_aside: Sequence[int] = ()
) -> int | None:
    """Return the id of the job that a sweep would free first, or ``None``."""
    parameters = {"start": start or "", "limit": 1, "set_aside": list(set_aside)}
    return connection.execute(_walk_and_orphans()[1], parameters).scalars().first()


_RESUMED = (
    sa.select(jobs.c.id)
    .where(is_parked(), jobs.c.lock.is_(None), is_open(jobs), may_have_slot(jobs), is_not_set_aside(jobs.c.id))
    .order_by(jobs.c.priority.desc(), jobs.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer()))
    .with_for_update(skip_locked=True)
)
_UNPARK_RESUMED = plain(
    sa.update(jobs).where(is_one_of(jobs.c.id, _RESUMED)).values(readiness=UNDECIDED).returning(jobs.c.id)
)


def unpark_resumed_jobs(connection: sa.Connection, *, limit: int = 1000, set_aside: Sequence[int] = ()) -> list[int]:
    """Free some jobs without a lock that were parked because of their queue. Return the ids of the jobs.

    The queue was paused, or no worker served it and the jobs have a limit.

    Jobs with a lock go on with :func:`sweep_parked_jobs`.
    """
    parameters = {"limit": limit, "set_aside": write_array(set_aside, sa.BigInteger())}
    return list(connection.execute(_UNPARK_RESUMED, parameters).scalars())


@finds_first_row_of(unpark_resumed_jobs)
def first_resumed_job(connection: sa.Connection, *, set_aside: Sequence[int] = ()) -> int | None:
    """Return the id of the job that :func:`unpark_resumed_jobs` would free first, or ``None``."""
    return connection.execute(_RESUMED, {"limit": 1, "set_aside": list(set_aside)}).scalars().first()
