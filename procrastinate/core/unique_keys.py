"""Unique keys of jobs, as the operations take and return them."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Sequence
from typing import Literal

from procrastinate.core.rows import NewJob

Until = Literal["start", "end", "period"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UniqueKey:
    """The key of a new job, and how long the job holds it.

    ``until`` is ``start`` while the job waits, ``end`` while it waits or runs, and ``period`` for ``period`` seconds
    from the defer. ``max_wait`` is the number of seconds from the defer after which a replacement delays the job no
    longer.
    """

    key: str
    until: Until
    period: float | None = None
    max_wait: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UniqueJob:
    """A job to defer, with its unique key. A job without a key is never in the way of another."""

    job: NewJob
    unique: UniqueKey | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TakenKey:
    """A unique key that another job holds.

    ``key`` is ``None`` if it is one of several, and it is not known which. ``job_id`` is ``None`` if the transaction
    cannot see that job. ``expires_at`` is the end of a period.
    """

    key: str | None
    job_id: int | None = None
    until: Until | None = None
    expires_at: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UniqueDefer:
    """The ids of the deferred jobs in the order of the input, or the key that was in the way of all of them.

    If ``needs_savepoint`` is true, nothing was deferred because a conflict might have aborted the transaction.
    """

    ids: tuple[int, ...] = ()
    taken: TakenKey | None = None
    needs_savepoint: bool = False


def given_twice(new_jobs: Iterable[UniqueJob]) -> str | None:
    """Return a key that several of the jobs have."""
    keys: set[str] = set()
    for job in new_jobs:
        if job.unique is not None and job.unique.key in keys:
            return job.unique.key
        keys |= set() if job.unique is None else {job.unique.key}
    return None


def one_for_each_key(new_jobs: Iterable[UniqueJob], *, last: bool) -> list[UniqueJob]:
    """Return one job for each key, in the position of the first: the first job, or the last if ``last``."""
    chosen: dict[object, UniqueJob] = {}
    for place, job in enumerate(new_jobs):
        key: object = place if job.unique is None else job.unique.key
        if last or key not in chosen:
            chosen[key] = job
    return list(chosen.values())


def in_order(new_jobs: Iterable[UniqueJob], chosen: Sequence[UniqueJob], ids: Sequence[int]) -> tuple[int, ...]:
    """Return an id for each of ``new_jobs``. Those with the same key have the id of the one that was chosen."""
    by_key = {job.unique.key: id_ for job, id_ in zip(chosen, ids, strict=True) if job.unique is not None}
    rest = iter([id_ for job, id_ in zip(chosen, ids, strict=True) if job.unique is None])
    return tuple(next(rest) if job.unique is None else by_key[job.unique.key] for job in new_jobs)
