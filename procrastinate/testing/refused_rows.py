"""The search for a row that the database refuses to change, in memory: no row is refused there.

Each function is documented at the function of the same name in :mod:`procrastinate.core`.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence

from procrastinate import core
from procrastinate.core import DeletionPlace, Rank, Status
from procrastinate.testing.implementations import Implementations
from procrastinate.testing.tables import Tables

IMPLEMENTED = Implementations()


@IMPLEMENTED.of(core.first_ready_job)
def first_ready_job(
    tables: Tables,
    *,
    queues: Sequence[str] | None = None,
    task_names: Sequence[str] | None = None,
    after: Rank | None = None,
    set_aside: Sequence[int] = (),
    paused: Sequence[str] = (),
) -> int | None:
    return None


@IMPLEMENTED.of(core.first_due_job)
def first_due_job(
    tables: Tables, *, due_by: datetime.datetime | None = None, set_aside: Sequence[int] = ()
) -> int | None:
    return None


@IMPLEMENTED.of(core.first_orphaned_job)
def first_orphaned_job(tables: Tables, *, max_rescues: int, set_aside: Sequence[int] = ()) -> int | None:
    return None


@IMPLEMENTED.of(core.first_unknown_job)
def first_unknown_job(
    tables: Tables,
    *,
    worker_id: int,
    known_ids: Collection[int],
    max_rescues: int,
    set_aside: Sequence[int] = (),
) -> int | None:
    return None


@IMPLEMENTED.of(core.first_orphaned_parked_job)
def first_orphaned_parked_job(tables: Tables, *, start: str | None = None, set_aside: Sequence[int] = ()) -> int | None:
    return None


@IMPLEMENTED.of(core.first_finished_job)
def first_finished_job(
    tables: Tables,
    *,
    older_than: datetime.timedelta,
    statuses: Collection[Status],
    queue_name: str | None = None,
    after: DeletionPlace | None = None,
    set_aside: Sequence[int] = (),
) -> int | None:
    return None
