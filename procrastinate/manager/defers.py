"""Deferring part of the job manager: single jobs, batches, batches of similar jobs, and cron ticks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from procrastinate import core, exceptions
from procrastinate._job import Job, with_ids
from procrastinate._job_checks import to_new_job, to_new_jobs_alike
from procrastinate.core.defaults import KEEP_TICKS_FOR
from procrastinate.defer_hooks import Tick
from procrastinate.manager.operation_calls import OperationCalls
from procrastinate.types import JSONDict, OnConflict


class JobDefers(OperationCalls):
    """The operations that defer jobs."""

    def defer_job(self, job: Job, connection: Any | None = None) -> Job:
        """Defer one job, and return it with its id and status.

        Raises
        ------
        AlreadyEnqueued
            A waiting job has the same queueing lock. The caller's transaction stays usable.
        InvalidJob
            A value cannot be stored.
        """
        return self.batch_defer_jobs([job], connection=connection)[0]

    async def defer_job_async(self, job: Job, connection: Any | None = None) -> Job:
        """Asynchronous version of :meth:`defer_job`."""
        return (await self.batch_defer_jobs_async([job], connection=connection))[0]

    def batch_defer_jobs(
        self, jobs: list[Job], connection: Any | None = None, *, on_conflict: OnConflict = "raise"
    ) -> list[Job]:
        """Defer jobs, all or none, and return them with their ids and status, in the same order.

        The exceptions are those of :meth:`defer_job`.

        Parameters
        ----------
        on_conflict:
            What happens if a waiting job has the same queueing lock. ``"raise"`` raises ``AlreadyEnqueued``.
            ``"skip"`` defers nothing for this job and returns it with the id of the waiting job. ``"replace"``
            overwrites the waiting job.
        """
        new_jobs = self._new_jobs(jobs)
        return with_ids(jobs, self.defer_rows(new_jobs, connection, on_conflict)) if new_jobs else []

    async def batch_defer_jobs_async(
        self, jobs: list[Job], connection: Any | None = None, *, on_conflict: OnConflict = "raise"
    ) -> list[Job]:
        """Asynchronous version of :meth:`batch_defer_jobs`."""
        new_jobs = self._new_jobs(jobs)
        return with_ids(jobs, await self.defer_rows_async(new_jobs, connection, on_conflict)) if new_jobs else []

    def defer_rows(self, new_jobs: list[core.NewJob], connection: Any | None, on_conflict: OnConflict) -> list[int]:
        """Defer checked rows, all or none, and return their ids. The parameters are those of :meth:`batch_defer_jobs`.

        The hooks of the app describe the rows first.

        Raises
        ------
        AlreadyEnqueued
            A waiting job has the same queueing lock. The caller's transaction stays usable.
        """
        with self.hooks.around(new_jobs) as (defer, described):
            defer.job_ids = ids = self._follow(core.tries_to_defer(described, on_conflict), connection)
        self._tell_hook(connection)
        return ids

    async def defer_rows_async(
        self, new_jobs: list[core.NewJob], connection: Any | None, on_conflict: OnConflict
    ) -> list[int]:
        """Asynchronous version of :meth:`defer_rows`."""
        with self.hooks.around(new_jobs) as (defer, described):
            defer.job_ids = ids = await self._follow_async(core.tries_to_defer(described, on_conflict), connection)
        await self._tell_hook_async(connection)
        return ids

    def batch_defer_alike(self, pattern: Job, calls: Sequence[JSONDict], connection: Any | None = None) -> list[int]:
        """Defer jobs that differ only in their arguments, all or none, and return their ids.

        Parameters
        ----------
        pattern:
            The template for all jobs, without a queueing lock.
        calls:
            The complete arguments of each job.

        Raises
        ------
        InvalidJob
            A value cannot be stored.
        """
        if not calls:
            return []
        row, all_args = to_new_jobs_alike(pattern, calls, self.connector.json_dumps)
        with self.hooks.around([row], len(calls)) as (defer, (row,)):
            defer.job_ids = self._run(connection, core.defer_jobs_alike, row, all_args)
        self._tell_hook(connection)
        return defer.job_ids

    async def batch_defer_alike_async(
        self, pattern: Job, calls: Sequence[JSONDict], connection: Any | None = None
    ) -> list[int]:
        """Asynchronous version of :meth:`batch_defer_alike`."""
        if not calls:
            return []
        row, all_args = to_new_jobs_alike(pattern, calls, self.connector.json_dumps)
        with self.hooks.around([row], len(calls)) as (defer, (row,)):
            defer.job_ids = await self._run_async(connection, core.defer_jobs_alike, row, all_args)
        await self._tell_hook_async(connection)
        return defer.job_ids

    def _new_jobs(self, jobs: Iterable[Job]) -> list[core.NewJob]:
        return [to_new_job(job, self.connector.json_dumps) for job in jobs]

    async def defer_periodic_job(
        self,
        job: Job,
        periodic_id: str,
        defer_timestamp: int,
        *,
        on_conflict: OnConflict = "raise",
        keep_for: float = KEEP_TICKS_FOR,
        tick: Tick | None = None,
        former_names: Sequence[str] = (),
    ) -> int | None:
        """Defer the job of one cron tick, unless another worker has deferred it.

        Parameters
        ----------
        periodic_id, defer_timestamp:
            The schedule of the task, and its tick in seconds since 1970.
        on_conflict:
            With ``"replace"``, a waiting job that has the same queueing lock becomes the job of this tick.
        keep_for:
            Seconds for which the database remembers ticks. When a later tick is deferred, older ones are forgotten and
            can no longer be deferred.
        tick:
            The same for the hooks of the app.
        former_names:
            Other names of the task. A tick that was deferred under one of them is not deferred again.

        Returns
        -------
        The job's id, or ``None`` if the tick was already deferred.

        Raises
        ------
        InvalidTimestamp
            The job's ``timestamp`` argument differs from ``defer_timestamp``.
        AlreadyEnqueued
            A waiting job has the same queueing lock. The tick counts as deferred.
        ConnectorException
            If :func:`~procrastinate.core.errors.is_lock_timeout` is true for it, another open transaction has taken
            the queueing lock. The tick is not deferred and does not count as deferred, so call again.
        """
        timestamp = job.task_kwargs.get("timestamp")
        if timestamp is None or timestamp != defer_timestamp:
            raise exceptions.InvalidTimestamp(
                f"The job's timestamp is {timestamp!r}, and its tick {defer_timestamp!r}: they must be the same"
            )
        if await self._has_tick(job, periodic_id, defer_timestamp):
            return None
        row = to_new_job(job, self.connector.json_dumps)
        with self.hooks.around([row], errors=BaseException, tick=tick) as (defer, (row,)):
            outcome = await self.connector.run_async(
                core.defer_tick,
                row,
                periodic_id=periodic_id,
                defer_timestamp=defer_timestamp,
                replace=on_conflict == "replace",
                keep_for=keep_for,
                briefly=True,
                former_names=former_names,
            )
            defer.job_ids = [] if outcome.job_id is None else [outcome.job_id]
            defer.is_late = outcome.is_late
        if outcome.queueing_lock_taken:
            raise core.lock_is_taken(job.queueing_lock)
        return outcome.job_id
