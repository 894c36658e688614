"""Numbers of the upkeep, for metrics: what vacuum cannot remove, the size of the tables, and locks without a holder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from procrastinate.core.inspection.bounds import Count, first_rows, to_count
from procrastinate.core.inspection.states import WALKS
from procrastinate.core.inspection.system import read_revision, read_tables
from procrastinate.core.job_states import JobState
from procrastinate.core.tables import holds_lock, jobs

_LOOKED_AT = 10_000
"""Number of jobs behind a lock that are looked at."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UpkeepFigures:
    """The state of the database, as far as it concerns the queue.

    ``orphan_locks`` counts locks that jobs wait for and no job has, among the first 10,000 jobs that wait. Workers free
    the next job of such a lock. ``xmin_age`` is the number of transactions since the oldest one that keeps vacuum from
    removing dead rows. A plain role sees only its own sessions, prepared transactions and replication slots.
    ``revision`` is ``None`` in a Django project.
    """

    orphan_locks: Count
    xmin_age: int
    table_bytes: Mapping[str, int]
    revision: str | None


_waiting = first_rows(WALKS[JobState.BLOCKED].select(jobs.c.lock, jobs.c.id), _LOOKED_AT + 1, "waiting")
_locks = (
    sa.select(_waiting.c.lock, sa.func.sum(sa.func.count()).over().label("looked_at"))
    .where(_waiting.c.lock.is_not(None))
    .group_by(_waiting.c.lock)
    .subquery("locks")
)
_IS_HELD = sa.exists().where(holds_lock(), jobs.c.lock == _locks.c.lock)
_ORPHANS: sa.Select[Any] = sa.select(
    sa.func.count().filter(~_IS_HELD).label("orphans"),
    sa.func.coalesce(sa.func.max(_locks.c.looked_at), 0).label("looked_at"),
).select_from(_locks)

_OLDEST_XMIN: sa.Select[Any] = sa.select(
    sa.func.greatest(
        *(
            sa.select(sa.func.max(sa.func.age(sa.column(column), type_=sa.Integer())))
            .select_from(sa.table(view))
            .scalar_subquery()
            for view, column in (
                ("pg_stat_activity", "backend_xmin"),
                ("pg_replication_slots", "xmin"),
                ("pg_replication_slots", "catalog_xmin"),
                ("pg_prepared_xacts", "transaction"),
            )
        ),
        sa.literal_column("0"),
    )
)


def read_upkeep(connection: sa.Connection) -> UpkeepFigures:
    """Return the numbers of the upkeep."""
    locks = connection.execute(_ORPHANS).one()
    return UpkeepFigures(
        orphan_locks=Count(number=locks.orphans, is_more=to_count(int(locks.looked_at), _LOOKED_AT).is_more),
        xmin_age=connection.execute(_OLDEST_XMIN).scalar_one(),
        table_bytes={table.name: table.size for table in read_tables(connection)},
        revision=read_revision(connection),
    )
