"""What a defer does if a queueing lock or a unique key is taken.

The decision is made here for every connector, for sync and async code, and for one job and many. An operation of one
statement is preferred, because it needs no transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from procrastinate import exceptions
from procrastinate._quoting import quoted
from procrastinate.core import defer
from procrastinate.core.rows import NewJob
from procrastinate.core.tries import Tries, Try
from procrastinate.core.unique_keys import TakenKey, UniqueDefer, UniqueJob
from procrastinate.types import OnConflict


def tries_to_defer(new_jobs: Sequence[NewJob], on_conflict: OnConflict) -> Tries[list[int]]:
    """Defer jobs, all or none, and return their ids in the order of the input.

    Parameters
    ----------
    on_conflict:
        What happens if a waiting job has the same queueing lock. ``raise`` and ``skip`` leave that job as it is, and
        ``skip`` returns its id. ``replace`` overwrites it.

    Raises
    ------
    AlreadyEnqueued
        A queueing lock is taken, and ``on_conflict`` is ``raise``. Or ``skip`` finds it taken and free in turn.
    """
    locks = [job.queueing_lock for job in new_jobs if job.queueing_lock is not None]
    operation = _operation(is_one=len(new_jobs) == 1, may_conflict=bool(locks), on_conflict=on_conflict)
    takes_one = operation in (defer.defer_job, defer.defer_job_or_skip)
    deferred = yield Try(operation, (new_jobs[0] if takes_one else new_jobs,))
    if deferred is None:
        taken = locks[0] if len(locks) == 1 else (yield Try(defer.find_taken_queueing_lock, (locks,)))
        raise lock_is_taken(taken)
    return [deferred] if takes_one else deferred


def _operation(*, is_one: bool, may_conflict: bool, on_conflict: OnConflict) -> Callable[..., Any]:
    if not may_conflict:
        return defer.defer_job if is_one else defer.defer_jobs
    if on_conflict == "replace":
        return defer.defer_jobs_or_replace
    if on_conflict == "skip":
        return defer.defer_job_or_skip if is_one else defer.defer_jobs_or_skip
    return defer.defer_job if is_one else defer.defer_jobs_or_none


def tries_to_defer_unique(new_jobs: Sequence[UniqueJob], on_conflict: OnConflict) -> Tries[list[int]]:
    """Defer unique jobs, all or none, and return their ids in the order of the input.

    Parameters
    ----------
    on_conflict:
        What happens if another job holds a key: see :func:`~procrastinate.core.unique.defer_unique_job`.

    Raises
    ------
    AlreadyEnqueued
        Another job holds a key.
    """
    from procrastinate.core import unique  # it builds large statements, which few programs need

    deferred = UniqueDefer(needs_savepoint=True)
    if len(new_jobs) == 1:
        deferred = yield Try(unique.defer_unique_job, (new_jobs[0],), {"on_conflict": on_conflict})
    if deferred.needs_savepoint:
        deferred = yield Try(unique.defer_unique_jobs, (new_jobs,), {"on_conflict": on_conflict})
    if deferred.taken is not None:
        raise key_is_held(deferred.taken)
    return list(deferred.ids)


def lock_is_taken(queueing_lock: str | None) -> exceptions.AlreadyEnqueued:
    """Return the exception that names a taken queueing lock, or none of several."""
    about = "one of the queueing locks" if queueing_lock is None else f"the queueing lock {queueing_lock!r}"
    return exceptions.AlreadyEnqueued(f"A job is waiting under {about} already")


def key_is_held(taken: TakenKey) -> exceptions.AlreadyEnqueued:
    """Return the exception that names the key, its holder, how long that holds it, and the way out."""
    holder = "Another job" if taken.job_id is None else f"Job {taken.job_id}"
    until = {"start": " until it starts", "end": " until it has ended"}.get(taken.until or "", "")
    if taken.expires_at is not None:
        until = f" until {taken.expires_at.isoformat(sep=' ', timespec='seconds')}"
    key = "one of the unique keys" if taken.key is None else f"the unique key {quoted(taken.key)}"
    return exceptions.AlreadyEnqueued(
        f"{holder} holds {key}{until}: defer later, or catch this exception, or give "
        "Unique(on_conflict='skip'). To free the key, call app.job_manager.free_unique_key",
        job_id=taken.job_id,
    )
