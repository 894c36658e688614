"""The operations on pauses and statistics, in memory.

Each function is documented at the function of the same name in :mod:`procrastinate.core.pauses`,
:mod:`procrastinate.core.sweep_parked` or :mod:`procrastinate.core.statistics`.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence

from procrastinate import core
from procrastinate.core import Pause, Pauses, Readiness, Runs
from procrastinate.testing.implementations import Implementations
from procrastinate.testing.rows import JobRow
from procrastinate.testing.tables import Tables

IMPLEMENTED = Implementations()


def _lasts(tables: Tables, pause: Pause) -> bool:
    return pause.until is None or pause.until > tables.now


def is_paused(tables: Tables, row: JobRow) -> bool:
    """Return true if the job's queue is paused."""
    pause = tables.pauses.get(row["queue_name"])
    return pause is not None and _lasts(tables, pause)


@IMPLEMENTED.of(core.pause_queue)
def pause_queue(
    tables: Tables,
    queue: str,
    *,
    reason: str | None = None,
    until: datetime.datetime | None = None,
    by: str | None = None,
) -> None:
    former = tables.pauses.get(queue)
    since = former.since if former is not None and _lasts(tables, former) else tables.now
    tables.pauses[queue] = Pause(queue=queue, since=since, until=until, by=by, reason=reason)
    tables.notify_pauses(queue)


@IMPLEMENTED.of(core.resume_queue)
def resume_queue(tables: Tables, queue: str) -> bool:
    pause = tables.pauses.pop(queue, None)
    if pause is None:
        return False
    tables.notify_pauses(queue)
    return _lasts(tables, pause)


@IMPLEMENTED.of(core.list_pauses)
def list_pauses(tables: Tables) -> list[Pause]:
    return [pause for _, pause in sorted(tables.pauses.items()) if _lasts(tables, pause)]


@IMPLEMENTED.of(core.get_pauses)
def get_pauses(tables: Tables) -> Pauses:
    return {
        pause.queue: None if pause.until is None else (pause.until - tables.now).total_seconds()
        for pause in list_pauses(tables)
    }


@IMPLEMENTED.of(core.free_locks_of_paused)
def free_locks_of_paused(tables: Tables, *, queue: str, limit: int = 1000, set_aside: Sequence[int] = ()) -> list[int]:
    def holds(row: JobRow) -> bool:
        keeps = row["lock"] is not None or tables.holds_slot(row)
        is_promoted = tables.progress(row["id"]).readiness == Readiness.PROMOTED
        return row["queue_name"] == queue and keeps and tables.is_ready(row) and is_promoted

    return _look_again(tables, tables.where(holds)[:limit])


@IMPLEMENTED.of(core.unpark_resumed_jobs)
def unpark_resumed_jobs(tables: Tables, *, limit: int = 1000, set_aside: Sequence[int] = ()) -> list[int]:
    return _look_again(
        tables,
        tables.where(lambda row: is_resumed(tables, row))[:limit],
    )


def is_resumed(tables: Tables, row: JobRow) -> bool:
    """Whether a pause has parked the job, and is over."""
    return tables.is_parked(row) and row["lock"] is None and not is_paused(tables, row)


def _look_again(tables: Tables, rows: list[JobRow]) -> list[int]:
    tables.update({row["id"]: {"readiness": Readiness.UNDECIDED} for row in rows})
    return [row["id"] for row in rows]


@IMPLEMENTED.of(core.record_runs)
def record_runs(tables: Tables, runs: Collection[Runs]) -> None:
    """Keep nothing: memory has no statistics, and no operation on it reads any."""


@IMPLEMENTED.of(core.roll_up_statistics)
def roll_up_statistics(tables: Tables) -> None:
    """Do nothing, as there are no statistics."""


@IMPLEMENTED.of(core.keep_task_list)
def keep_task_list(tables: Tables, *, hash: str, tasks: Collection[str]) -> None:
    """Keep nothing: no operation in memory reads the names."""
