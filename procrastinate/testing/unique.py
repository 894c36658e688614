"""The operations on unique keys, in memory.

Each function is documented at the function of the same name in :mod:`procrastinate.core`.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Sequence

from procrastinate import core
from procrastinate.core import KeySweep, TakenKey, TickOutcome, UniqueDefer, UniqueJob, UniqueKey
from procrastinate.core.defaults import CLOCK_TOLERANCE, KEEP_TICKS_FOR
from procrastinate.core.unique_keys import given_twice, in_order, one_for_each_key
from procrastinate.testing.implementations import Implementations
from procrastinate.testing.queue import begin_ticks, overwrite, record_tick
from procrastinate.testing.rows import NOT_ENDED, TODO, UniqueRow
from procrastinate.testing.tables import Tables
from procrastinate.types import OnConflict

IMPLEMENTED = Implementations()
_TOLERANCE = datetime.timedelta(seconds=CLOCK_TOLERANCE)


def is_free(tables: Tables, row: UniqueRow) -> bool:
    """Return true if the job of the key does not hold it any more."""
    if row.expires_at is not None:
        lasts = row.expires_at - row.taken_at
        return row.expires_at <= tables.now or row.taken_at - tables.now > max(lasts, _TOLERANCE)
    held_as = (TODO,) if row.until == "start" else NOT_ENDED
    return row.job_id not in tables.jobs or tables.jobs[row.job_id]["status"] not in held_as


@IMPLEMENTED.of(core.defer_unique_job)
def defer_unique_job(tables: Tables, job: UniqueJob, *, on_conflict: OnConflict) -> UniqueDefer:
    taken = _in_the_way(tables, [job], on_conflict)
    return UniqueDefer(ids=(_defer(tables, job, on_conflict),)) if taken is None else UniqueDefer(taken=taken)


@IMPLEMENTED.of(core.defer_unique_jobs)
def defer_unique_jobs(tables: Tables, new_jobs: Sequence[UniqueJob], *, on_conflict: OnConflict) -> UniqueDefer:
    twice = given_twice(new_jobs) if on_conflict == "raise" else None
    if twice is not None:
        return UniqueDefer(taken=TakenKey(key=twice))
    chosen = one_for_each_key(new_jobs, last=on_conflict == "replace")
    taken = _in_the_way(tables, chosen, on_conflict)
    if taken is not None:
        return UniqueDefer(taken=taken)
    return UniqueDefer(ids=in_order(new_jobs, chosen, [_defer(tables, job, on_conflict) for job in chosen]))


def _in_the_way(tables: Tables, new_jobs: Iterable[UniqueJob], on_conflict: OnConflict) -> TakenKey | None:
    """Return the first key that refuses all the jobs."""
    for job in new_jobs:
        row = _held(tables, job.unique)
        if row is None or on_conflict == "skip" or (on_conflict == "replace" and _waits(tables, row)):
            continue
        return TakenKey(key=row.key, job_id=row.job_id, until=row.until, expires_at=row.expires_at)
    return None


def _held(tables: Tables, unique: UniqueKey | None) -> UniqueRow | None:
    row = None if unique is None else tables.uniques.get(unique.key)
    return None if row is None or is_free(tables, row) else row


def _waits(tables: Tables, row: UniqueRow) -> bool:
    return row.job_id in tables.jobs and tables.jobs[row.job_id]["status"] == TODO


def _defer(tables: Tables, job: UniqueJob, on_conflict: OnConflict) -> int:
    """Defer the job, or return the job that holds its key, replaced or not."""
    row = _held(tables, job.unique)
    if row is not None:
        if on_conflict == "replace" and job.unique is not None:
            deadlines = (row.start_by, _after(row.taken_at, job.unique.max_wait))
            overwrite(tables, row.job_id, job.job, not_after=_earliest(deadlines))
        return row.job_id
    start_by = None if job.unique is None else _after(tables.now, job.unique.max_wait)
    new_job = job.job
    if start_by is not None and new_job.scheduled_at is not None:
        new_job = dataclasses.replace(new_job, scheduled_at=min(new_job.scheduled_at, start_by))
    (job_id,) = tables.insert([new_job])
    if job.unique is not None:
        tables.uniques[job.unique.key] = UniqueRow(
            key=job.unique.key,
            job_id=job_id,
            until=job.unique.until,
            taken_at=tables.now,
            expires_at=_after(tables.now, job.unique.period),
            start_by=start_by,
        )
    return job_id


def _after(moment: datetime.datetime, seconds: float | None) -> datetime.datetime | None:
    return None if seconds is None else moment + datetime.timedelta(seconds=seconds)


def _earliest(moments: Iterable[datetime.datetime | None]) -> datetime.datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


@IMPLEMENTED.of(core.defer_unique_tick)
def defer_unique_tick(
    tables: Tables,
    job: UniqueJob,
    *,
    on_conflict: OnConflict,
    periodic_id: str,
    defer_timestamp: int,
    keep_for: float = KEEP_TICKS_FOR,
    briefly: bool = False,
    former_names: Sequence[str] = (),
) -> TickOutcome:
    ticks = begin_ticks(tables, (job.job.task_name, periodic_id, defer_timestamp), keep_for, former_names)
    if not ticks:
        return TickOutcome(job_id=None)
    deferred = defer_unique_job(tables, job, on_conflict=on_conflict)
    job_id = deferred.ids[0] if deferred.ids else None
    for tick in ticks:
        record_tick(tables, tick, job_id)
    return TickOutcome(job_id=job_id, taken=deferred.taken)


@IMPLEMENTED.of(core.find_unique_key)
def find_unique_key(tables: Tables, key: str) -> TakenKey | None:
    row = tables.uniques.get(key)
    if row is None or is_free(tables, row):
        return None
    return TakenKey(key=key, job_id=row.job_id, until=row.until, expires_at=row.expires_at)


@IMPLEMENTED.of(core.free_unique_key)
def free_unique_key(tables: Tables, key: str) -> bool:
    held = find_unique_key(tables, key)
    tables.uniques.pop(key, None)
    return held is not None


@IMPLEMENTED.of(core.sweep_unique_keys)
def sweep_unique_keys(tables: Tables, *, after: int | None = None, limit: int = 1000) -> KeySweep:
    rows = sorted(tables.uniques.values(), key=lambda row: row.job_id)
    seen = [row for row in rows if row.job_id > (after or 0)][:limit]
    old = [row for row in seen if _is_old(tables, row)]
    for row in old:
        del tables.uniques[row.key]
    return KeySweep(seen=len(seen), deleted=len(old), reached=seen[-1].job_id if len(seen) == limit else None)


def _is_old(tables: Tables, row: UniqueRow) -> bool:
    return is_free(tables, row) if row.until == "period" else row.job_id not in tables.jobs
