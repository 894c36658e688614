"""Operations on unique keys without a defer: look at one, free one, delete those that no job will hold again."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import is_one_of
from procrastinate.core.defaults import LARGEST_ID
from procrastinate.core.lock_timeouts import wait_briefly
from procrastinate.core.operation_marks import atomic
from procrastinate.core.tables import jobs, uniques
from procrastinate.core.unique import is_free, is_over, readable
from procrastinate.core.unique_keys import TakenKey

_KEY = sa.bindparam("key", type_=sa.Text())
_FIND = (
    sa.select(uniques.c.key, uniques.c.job_id, uniques.c.until, readable(uniques.c.expires_at).label("expires_at"))
    .select_from(uniques.outerjoin(jobs, jobs.c.id == uniques.c.job_id))
    .where(uniques.c.key == _KEY, sa.not_(is_free(jobs)))
)
_FREE = (
    sa.delete(uniques)
    .where(uniques.c.key == _KEY, uniques.c.job_id == sa.bindparam("holder", type_=sa.BigInteger()))
    .returning(uniques.c.job_id)
)


def find_unique_key(connection: sa.Connection, key: str) -> TakenKey | None:
    """Return a unique key with the job that holds it, or ``None`` if the key is free."""
    row = connection.execute(_FIND, {"key": key}).one_or_none()
    return None if row is None else TakenKey(**row._mapping)


@atomic
def free_unique_key(connection: sa.Connection, key: str) -> bool:
    """Free a unique key. The job that held it stays as it is.

    Returns
    -------
    False if the key was not held.
    """
    held = find_unique_key(connection, key)
    if held is None:
        return False
    # Another job may have taken the key since. It keeps it.
    return connection.execute(_FREE, {"key": key, "holder": held.job_id}).one_or_none() is not None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class KeySweep:
    """The number of rows that were looked at and deleted, and the job of the last one (``None`` at the end)."""

    seen: int
    deleted: int
    reached: int | None


@functools.cache
def _sweep_statement(limit: int) -> sa.Select[Any]:
    """Return the statement for this limit, which a plan for any limit would take for a tenth of the table."""
    is_old = sa.case((uniques.c.until == "period", is_over(uniques)), else_=jobs.c.id.is_(None))
    seen = (
        sa.select(uniques.c.key, uniques.c.job_id, is_old.label("is_old"))
        .select_from(uniques.outerjoin(jobs, jobs.c.id == uniques.c.job_id))
        .where(uniques.c.job_id > sa.bindparam("after", type_=sa.BigInteger()))
        .order_by(uniques.c.job_id)
        .limit(sa.literal_column(str(limit), type_=sa.Integer()))
        .cte("seen")
    )
    # The row may belong to another job by now, which this snapshot does not show. So compare the job again.
    old = (
        sa.select(uniques.c.key)
        .where(
            is_one_of(uniques.c.key, sa.select(seen.c.key).where(seen.c.is_old)),
            uniques.c.job_id.in_(sa.select(seen.c.job_id).where(seen.c.is_old)),
        )
        .with_for_update(of=uniques, skip_locked=True)
    )
    deleted = sa.delete(uniques).where(is_one_of(uniques.c.key, old)).returning(uniques.c.key).cte("deleted")
    return sa.select(
        sa.select(sa.func.count()).select_from(seen).scalar_subquery().label("seen"),
        sa.select(sa.func.count()).select_from(deleted).scalar_subquery().label("deleted"),
        sa.select(sa.func.max(seen.c.job_id)).scalar_subquery().label("reached"),
    )


@atomic
def sweep_unique_keys(connection: sa.Connection, *, after: int | None = None, limit: int = 1000) -> KeySweep:
    """Delete the keys that are free for good: their period is over, or they have no period and their job is deleted.

    A job that has ended and is not deleted may be retried, and holds its key again then.

    Parameters
    ----------
    after:
        The ``reached`` of the previous sweep. Without it, the sweep starts with the oldest job.
    limit:
        The number of keys to look at.
    """
    wait_briefly(connection)
    beginning = -LARGEST_ID
    row = connection.execute(_sweep_statement(limit), {"after": beginning if after is None else after}).one()
    return KeySweep(seen=row.seen, deleted=row.deleted, reached=row.reached if row.seen == limit else None)
