"""Deferrer of unique jobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from procrastinate._deferrer import JobDeferrer, log_about_to_defer, log_deferred
from procrastinate._job import Job, with_ids
from procrastinate.core.unique_keys import UniqueKey
from procrastinate.locks import Lock
from procrastinate.types import JSONDict, JSONValue, OnConflict
from procrastinate.unique import Unique, make_unique_key

if TYPE_CHECKING:
    from procrastinate.manager import JobManager


class UniqueDeferrer(JobDeferrer):
    """Defers unique jobs that differ only in their arguments. ``task.configure(unique=...)`` returns one.

    Parameters
    ----------
    unique:
        The key of the jobs, and what happens if another job holds it.
    job, connection, lock, limit_key:
        As for :class:`~procrastinate.jobs.JobDeferrer`.
    """

    def __init__(
        self,
        job_manager: JobManager,
        job: Job,
        connection: Any | None = None,
        *,
        unique: Unique,
        lock: Lock | None = None,
        limit_key: Lock | None = None,
    ) -> None:
        super().__init__(job_manager, job, connection, lock=lock, limit_key=limit_key)
        self.unique = unique

    def defer(self, /, **task_kwargs: JSONValue) -> int:
        """Defer one job, and return its id, or with ``"skip"`` the id of the job that holds its key.

        Raises
        ------
        AlreadyEnqueued
            Another job holds the key. An open transaction stays usable.
        InvalidJob
            An argument cannot be stored as JSON, a name is too long, or the key cannot be made from the arguments.
        TypeError
            The arguments do not fit the signature of the task's function.
        """
        return self.batch_defer(task_kwargs)[0]

    async def defer_async(self, /, **task_kwargs: JSONValue) -> int:
        """Asynchronous version of :meth:`defer`."""
        return (await self.batch_defer_async(task_kwargs))[0]

    def batch_defer(self, *task_kwargs: JSONDict) -> list[int]:
        """Defer one job for each dict of arguments, all or none.

        If several have the same key, ``"raise"`` defers none, ``"skip"`` the first and ``"replace"`` the last.

        Return the ids in the order of the arguments. The exceptions are those of :meth:`defer`.
        """
        jobs, keys = self._make(task_kwargs)
        log_about_to_defer(lambda: jobs)
        on_conflict = self.unique.on_conflict
        ids = self.job_manager.defer_unique_jobs(jobs, keys, self.connection, on_conflict=on_conflict)
        log_deferred(lambda: with_ids(jobs, ids))
        return ids

    async def batch_defer_async(self, *task_kwargs: JSONDict) -> list[int]:
        """Asynchronous version of :meth:`batch_defer`."""
        jobs, keys = self._make(task_kwargs)
        log_about_to_defer(lambda: jobs)
        on_conflict = self.unique.on_conflict
        ids = await self.job_manager.defer_unique_jobs_async(jobs, keys, self.connection, on_conflict=on_conflict)
        log_deferred(lambda: with_ids(jobs, ids))
        return ids

    def _make(self, all_kwargs: Iterable[JSONDict]) -> tuple[list[Job], list[UniqueKey | None]]:
        jobs = [self.make_new_job(**kwargs) for kwargs in all_kwargs]
        return jobs, [self.make_unique_key(job) for job in jobs]

    def make_unique_key(self, job: Job) -> UniqueKey | None:
        """Return the unique key of a job that this deferrer has made, or ``None`` if the job is not unique.

        Raises
        ------
        InvalidJob
            The key cannot be made from the arguments of the job.
        """
        json_dumps = self.job_manager.connector.json_dumps
        return make_unique_key(self.unique, task_name=job.task_name, task_kwargs=job.task_kwargs, json_dumps=json_dumps)


def require_unique(unique: Any, *, queueing_lock: Lock | None, on_conflict: OnConflict | None) -> None:
    """Refuse a value that is no :class:`~procrastinate.Unique`, and one that comes with a queueing lock.

    Raises
    ------
    TypeError, ValueError
        The message names the argument and the way out.
    """
    if unique is None:
        return
    if not isinstance(unique, Unique):
        raise TypeError(f"unique={unique!r}: write unique=Unique(by=...), with procrastinate.Unique")
    if queueing_lock is not None:
        raise ValueError("Give unique or queueing_lock, not both: Unique(until='start') does what a queueing lock does")
    if on_conflict not in (None, "raise"):
        raise ValueError(
            f"on_conflict={on_conflict!r} belongs to queueing_lock: with unique, write "
            f"Unique(on_conflict={on_conflict!r})"
        )
