"""Defers of jobs with unique keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from procrastinate import core
from procrastinate._checks.names import check_lock
from procrastinate._job import Job
from procrastinate._job_checks import to_new_job
from procrastinate.core.defaults import KEEP_TICKS_FOR
from procrastinate.defer_hooks import Tick
from procrastinate.manager.operation_calls import OperationCalls
from procrastinate.types import OnConflict


class UniqueDefers(OperationCalls):
    """The operations that defer unique jobs."""

    def defer_unique_jobs(
        self,
        jobs: Sequence[Job],
        keys: Sequence[core.UniqueKey | None],
        connection: Any | None = None,
        *,
        on_conflict: OnConflict = "raise",
    ) -> list[int]:
        """Defer jobs with their unique keys, all or none, and return their ids.

        Parameters
        ----------
        on_conflict:
            What happens if another job holds a key: see :class:`procrastinate.Unique`.

        Raises
        ------
        AlreadyEnqueued
            Another job holds a key. The caller's transaction stays usable.
        InvalidJob
            A value cannot be stored.
        """
        new_jobs = self._unique_jobs(jobs, keys)
        if not new_jobs:
            return []
        with self.hooks.around([new.job for new in new_jobs]) as (defer, described):
            new_jobs = _described(new_jobs, described)
            defer.job_ids = self._follow(core.tries_to_defer_unique(new_jobs, on_conflict), connection)
        self._tell_hook(connection)
        return defer.job_ids

    async def defer_unique_jobs_async(
        self,
        jobs: Sequence[Job],
        keys: Sequence[core.UniqueKey | None],
        connection: Any | None = None,
        *,
        on_conflict: OnConflict = "raise",
    ) -> list[int]:
        """Asynchronous version of :meth:`defer_unique_jobs`."""
        new_jobs = self._unique_jobs(jobs, keys)
        if not new_jobs:
            return []
        with self.hooks.around([new.job for new in new_jobs]) as (defer, described):
            new_jobs = _described(new_jobs, described)
            defer.job_ids = await self._follow_async(core.tries_to_defer_unique(new_jobs, on_conflict), connection)
        await self._tell_hook_async(connection)
        return defer.job_ids

    def _unique_jobs(self, jobs: Sequence[Job], keys: Sequence[core.UniqueKey | None]) -> list[core.UniqueJob]:
        return [
            core.UniqueJob(job=to_new_job(job, self.connector.json_dumps), unique=key)
            for job, key in zip(jobs, keys, strict=True)
        ]

    def find_unique_key(self, key: str, connection: Any | None = None) -> core.TakenKey | None:
        """Return a unique key with the id of the job that holds it, or ``None`` if the key is free.

        The key of :func:`~procrastinate.by_arguments` has the name of the task in it. Its text is in the message of
        ``AlreadyEnqueued`` and on the page of the job.

        Raises
        ------
        InvalidJob
            The text cannot be a key.
        """
        return self._run(connection, core.find_unique_key, _checked(key))

    async def find_unique_key_async(self, key: str, connection: Any | None = None) -> core.TakenKey | None:
        """Asynchronous version of :meth:`find_unique_key`."""
        return await self._run_async(connection, core.find_unique_key, _checked(key))

    def free_unique_key(self, key: str, connection: Any | None = None) -> bool:
        """Free a unique key, for example before its period is over. The job that held it stays as it is.

        Return false if the key was not held.

        Raises
        ------
        InvalidJob
            The text cannot be a key.
        """
        return self._run(connection, core.free_unique_key, _checked(key))

    async def free_unique_key_async(self, key: str, connection: Any | None = None) -> bool:
        """Asynchronous version of :meth:`free_unique_key`."""
        return await self._run_async(connection, core.free_unique_key, _checked(key))

    async def defer_unique_periodic_job(
        self,
        job: Job,
        key: core.UniqueKey | None,
        periodic_id: str,
        defer_timestamp: int,
        *,
        on_conflict: OnConflict = "raise",
        keep_for: float = KEEP_TICKS_FOR,
        tick: Tick | None = None,
        former_names: Sequence[str] = (),
    ) -> int | None:
        """Defer the job of one cron tick, unless another worker has deferred it or another job holds its key.

        The parameters and the other exceptions are those of
        :meth:`~procrastinate.manager.defers.JobDefers.defer_periodic_job`.

        Raises
        ------
        AlreadyEnqueued
            Another job holds the key. The tick counts as deferred.
        """
        if await self._has_tick(job, periodic_id, defer_timestamp):
            return None
        described = to_new_job(job, self.connector.json_dumps)
        with self.hooks.around([described], errors=BaseException, tick=tick) as (defer, (row,)):
            outcome = await self.connector.run_async(
                core.defer_unique_tick,
                core.UniqueJob(job=row, unique=key),
                on_conflict=on_conflict,
                periodic_id=periodic_id,
                defer_timestamp=defer_timestamp,
                keep_for=keep_for,
                briefly=True,
                former_names=former_names,
            )
            defer.job_ids = [] if outcome.job_id is None else [outcome.job_id]
            defer.is_late = outcome.is_late
        if outcome.taken is not None:
            raise core.key_is_held(outcome.taken)
        return outcome.job_id


def _checked(key: str) -> str:
    check_lock("unique key", key)
    return key


def _described(new_jobs: list[core.UniqueJob], jobs: list[core.NewJob]) -> list[core.UniqueJob]:
    return [core.UniqueJob(job=job, unique=new.unique) for new, job in zip(new_jobs, jobs, strict=True)]
