"""The queue, as users and workers use it: every operation, sync and async, with jobs in and jobs out."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NoReturn, Protocol, TypeVar

from procrastinate import core, exceptions
from procrastinate.connector import BaseConnector
from procrastinate.core.channels import Notification, channels_for, parse_notification
from procrastinate.core.tables import QUEUEING_LOCK_CONSTRAINT
from procrastinate.core.ticks import KEEP_TICKS_FOR
from procrastinate.job_lists import JobLists
from procrastinate.jobs import Job, Status, with_ids
from procrastinate.results import Result, to_result
from procrastinate.timing import require_aware
from procrastinate.types import JSONDict, OnConflict
from procrastinate.validation import to_new_job, to_new_jobs_alike
from procrastinate.waiting import Waiter
from procrastinate.worker_operations import WorkerOperations

__all__ = ["QUEUEING_LOCK_CONSTRAINT", "JobManager", "NotificationCallback"]

R = TypeVar("R")

_DELETE_BATCH = 1000


class NotificationCallback(Protocol):
    """What is called for each notification."""

    def __call__(self, *, channel: str, notification: Notification) -> Awaitable[None]: ...


class DeferHook(Protocol):
    """What is told when jobs were deferred: a test that runs them at once."""

    def deferred(self, connection: Any | None) -> None:
        """Jobs were deferred, on this connection of the user's or on the app's own."""
        ...

    async def deferred_async(self, connection: Any | None) -> None:
        """As :meth:`deferred`, from asynchronous code."""
        ...


class JobManager(WorkerOperations, JobLists):
    """Every operation on the queue. An app has one as ``app.job_manager``.

    What workers need, and what lists jobs, is in its bases. Methods that take ``connection`` use an open connection of
    the user's, inside its transaction, and neither commit nor roll back.
    """

    def __init__(self, connector: BaseConnector) -> None:
        self.connector = connector
        self._waiter = Waiter(lambda: self.connector)
        self.defer_hook: DeferHook | None = None

    # Defer

    def defer_job(self, job: Job, connection: Any | None = None) -> Job:
        """Defer one job, and return it with its id and status.

        Raises
        ------
        AlreadyEnqueued
            A job is waiting under the same queueing lock. The caller's transaction stays usable.
        InvalidJob
            A value cannot be stored.
        """
        return self.batch_defer_jobs([job], connection=connection)[0]

    async def defer_job_async(self, job: Job, connection: Any | None = None) -> Job:
        """As :meth:`defer_job`."""
        return (await self.batch_defer_jobs_async([job], connection=connection))[0]

    def batch_defer_jobs(
        self, jobs: list[Job], connection: Any | None = None, *, on_conflict: OnConflict = "raise"
    ) -> list[Job]:
        """Defer jobs, all or none, and return them with their ids and status; raises as :meth:`defer_job`.

        Parameters
        ----------
        on_conflict:
            What to do with a job whose queueing lock is taken: ``"raise"`` AlreadyEnqueued; ``"skip"`` it, and return
            it with the id of the one that waits; or ``"replace"`` the one that waits.
        """
        new_jobs = self._new_jobs(jobs)
        if not new_jobs:
            return []
        ids = _as_ids(self._run(connection, *_defer_call(new_jobs, on_conflict)))
        if ids is None:
            _raise_already_enqueued(self._run(connection, core.find_taken_queueing_lock, _queueing_locks(new_jobs)))
        if self.defer_hook is not None:
            self.defer_hook.deferred(connection)
        return with_ids(jobs, ids)

    async def batch_defer_jobs_async(
        self, jobs: list[Job], connection: Any | None = None, *, on_conflict: OnConflict = "raise"
    ) -> list[Job]:
        """As :meth:`batch_defer_jobs`."""
        new_jobs = self._new_jobs(jobs)
        if not new_jobs:
            return []
        ids = _as_ids(await self._run_async(connection, *_defer_call(new_jobs, on_conflict)))
        if ids is None:
            locks = _queueing_locks(new_jobs)
            _raise_already_enqueued(await self._run_async(connection, core.find_taken_queueing_lock, locks))
        if self.defer_hook is not None:
            await self.defer_hook.deferred_async(connection)
        return with_ids(jobs, ids)

    def batch_defer_alike(self, pattern: Job, calls: Sequence[JSONDict], connection: Any | None = None) -> list[int]:
        """Defer jobs that differ in their arguments alone, all or none, and return their ids.

        Parameters
        ----------
        pattern:
            What they have in common, without a queueing lock.
        calls:
            The whole arguments of each.

        Raises
        ------
        InvalidJob
            A value cannot be stored.
        """
        if not calls:
            return []
        new_jobs = to_new_jobs_alike(pattern, calls, self.connector.json_dumps)
        ids = self._run(connection, core.defer_jobs_alike, *new_jobs)
        if self.defer_hook is not None:
            self.defer_hook.deferred(connection)
        return ids

    async def batch_defer_alike_async(
        self, pattern: Job, calls: Sequence[JSONDict], connection: Any | None = None
    ) -> list[int]:
        """As :meth:`batch_defer_alike`."""
        if not calls:
            return []
        new_jobs = to_new_jobs_alike(pattern, calls, self.connector.json_dumps)
        ids = await self._run_async(connection, core.defer_jobs_alike, *new_jobs)
        if self.defer_hook is not None:
            await self.defer_hook.deferred_async(connection)
        return ids

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
    ) -> int | None:
        """Defer the job of one cron tick, unless somebody did.

        Parameters
        ----------
        on_conflict:
            ``"replace"``: a job that waits under the same queueing lock becomes the job of this tick.
        keep_for:
            Seconds for which ticks are remembered. Older ones are forgotten when a later one is deferred, and are not
            deferred any more once it was.

        Returns
        -------
        Its id; ``None`` where the tick was deferred already.

        Raises
        ------
        InvalidTimestamp
            The job's ``timestamp`` argument is another than ``defer_timestamp``.
        AlreadyEnqueued
            A job is waiting under the same queueing lock. The tick counts as deferred.
        """
        timestamp = job.task_kwargs.get("timestamp")
        if timestamp is None or timestamp != defer_timestamp:
            raise exceptions.InvalidTimestamp(
                f"The job's timestamp is {timestamp!r}, and its tick {defer_timestamp!r}: they must be the same"
            )
        outcome = await self.connector.run_async(
            core.defer_tick,
            to_new_job(job, self.connector.json_dumps),
            periodic_id=periodic_id,
            defer_timestamp=defer_timestamp,
            replace=on_conflict == "replace",
            keep_for=keep_for,
        )
        if outcome.queueing_lock_taken:
            _raise_already_enqueued(job.queueing_lock)
        return outcome.job_id

    # Finish, by hand

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """Record how a job ended. One that a worker holds is recorded only while it still does."""
        if job.worker_id is None:
            await self.finish_job_by_id_async(_id(job), status=status, delete_job=delete_job)
            return
        finished = core.FinishedJob(id=_id(job), attempts=job.attempts, status=status, delete=delete_job)
        await self.finish_jobs([finished], worker_id=job.worker_id)

    async def finish_job_by_id_async(self, job_id: int, status: Status, delete_job: bool) -> None:
        """Record how a waiting or running job ended, whoever holds it."""
        await self.connector.run_async(core.finish_job_by_id, job_id, status=status, delete=delete_job)

    # Retry

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime.datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
        *,
        connection: Any | None = None,
    ) -> None:
        """As :meth:`retry_job_by_id`."""
        await self.retry_job_by_id_async(_id(job), retry_at, priority, queue, lock, connection)

    def retry_job_by_id(
        self,
        job_id: int,
        retry_at: datetime.datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
        connection: Any | None = None,
        *,
        spare_running: bool = False,
    ) -> None:
        """Send a failed job, or a running one whose worker is lost, back to wait.

        Parameters
        ----------
        retry_at:
            When it may run again, an aware datetime; ``None`` for at once.
        priority, queue, lock:
            New values; ``None`` keeps what the job has.
        spare_running:
            Leave a running job alone whose worker has given a sign of life in the last half minute: sent back, it
            would run twice at once.

        Raises
        ------
        JobNotRetriable
            There is no such job, or it is neither failed nor running, or it is spared.
        """
        changes = _retry_changes(retry_at, priority, queue, lock)
        _require_retried(
            job_id, self._run(connection, core.retry_job_by_id, job_id, **changes, spare_running=spare_running)
        )

    async def retry_job_by_id_async(
        self,
        job_id: int,
        retry_at: datetime.datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
        connection: Any | None = None,
        *,
        spare_running: bool = False,
    ) -> None:
        """As :meth:`retry_job_by_id`."""
        changes = _retry_changes(retry_at, priority, queue, lock)
        _require_retried(
            job_id,
            await self._run_async(connection, core.retry_job_by_id, job_id, **changes, spare_running=spare_running),
        )

    # Cancel, abort, status

    def cancel_job_by_id(
        self, job_id: int, abort: bool = False, delete_job: bool = False, connection: Any | None = None
    ) -> bool:
        """Cancel a waiting job.

        Parameters
        ----------
        abort:
            Ask for it to be stopped if it runs already.
        delete_job:
            Remove the waiting job instead of keeping it as cancelled.

        Returns
        -------
        False where there was nothing to cancel.
        """
        return self._run(connection, core.cancel_job, job_id, abort=abort, delete=delete_job)

    async def cancel_job_by_id_async(
        self, job_id: int, abort: bool = False, delete_job: bool = False, connection: Any | None = None
    ) -> bool:
        """As :meth:`cancel_job_by_id`."""
        return await self._run_async(connection, core.cancel_job, job_id, abort=abort, delete=delete_job)

    def get_job_status(self, job_id: int, connection: Any | None = None) -> Status:
        """The status of a job.

        Raises
        ------
        NoResult
            There is no such job.
        """
        return _require_found(job_id, self._run(connection, core.get_job_status, job_id))

    async def get_job_status_async(self, job_id: int, connection: Any | None = None) -> Status:
        """As :meth:`get_job_status`."""
        return _require_found(job_id, await self._run_async(connection, core.get_job_status, job_id))

    # Results

    def get_result(self, job_id: int, connection: Any | None = None) -> Result:
        """What is known of a job: its status, what it returned, its errors, when and where it ran; in one round trip.

        Raises
        ------
        NoResult
            There is no such job: it was deleted, or the transaction that defers it is not committed.
        """
        return self._result(job_id, self._run(connection, core.get_result, job_id))

    async def get_result_async(self, job_id: int, connection: Any | None = None) -> Result:
        """As :meth:`get_result`."""
        return self._result(job_id, await self._run_async(connection, core.get_result, job_id))

    def wait(self, job_id: int, *, timeout: float) -> Result:
        """Wait until a job has ended, in whatever way, and return its result.

        The end of a job whose task stores results (``store_result=True``) wakes it, if the database can be listened to;
        any other end is noticed within a second.

        Parameters
        ----------
        timeout:
            Seconds to wait at most.

        Raises
        ------
        WaitTimeout
            It has not ended in time. (A ``TimeoutError``.)
        JobNotCommitted
            The job was deferred in the caller's own transaction, which is still open: nobody can run it.
        NoResult
            There is no such job: the transaction that defers it is not committed, or it was deleted when it ended.
        """
        self._waiter.wait(job_id, timeout)
        return self.get_result(job_id)

    async def wait_async(self, job_id: int, *, timeout: float) -> Result:  # noqa: ASYNC109
        """As :meth:`wait`."""
        await self._waiter.wait_async(job_id, timeout)
        return await self.get_result_async(job_id)

    def _result(self, job_id: int, stored: core.StoredResult | None) -> Result:
        stored = _require_found(job_id, stored)
        return to_result(stored, self._job(stored.job), self.connector.json_loads)

    async def list_jobs_to_abort_async(self, queue: str | None = None, worker_id: int | None = None) -> Iterable[int]:
        """The ids of the running jobs whose abort was requested."""
        return await self.connector.run_async(core.list_jobs_to_abort, queue_name=queue, worker_id=worker_id)

    # Stalled and old jobs

    async def get_stalled_jobs(
        self,
        nb_seconds: int | None = None,
        queue: str | None = None,
        task_name: str | None = None,
        seconds_since_heartbeat: float = 30,
        *,
        connection: Any | None = None,
    ) -> Iterable[Job]:
        """The running jobs whose worker has not been heard of for so many seconds.

        Workers rescue them without being asked; this is to look at them.

        Parameters
        ----------
        nb_seconds:
            Deprecated: running jobs that started longer ago than this, whatever their worker says.
        """
        if nb_seconds is not None:
            operation = functools.partial(core.list_jobs_started_before, seconds=nb_seconds)
        else:
            operation = functools.partial(core.list_stalled_jobs, seconds_since_heartbeat=seconds_since_heartbeat)
        stored = await self._run_async(connection, operation, queue_name=queue, task_name=task_name)
        return self._jobs(stored)

    def delete_everything(self) -> None:
        """Delete all jobs, running ones too, with all history, and all workers: for tests that commit."""
        self._run(None, core.delete_everything)

    async def delete_everything_async(self) -> None:
        """As :meth:`delete_everything`."""
        await self._run_async(None, core.delete_everything)

    async def delete_old_jobs(
        self,
        nb_hours: int,
        queue: str | None = None,
        include_failed: bool | None = False,
        include_cancelled: bool | None = False,
        include_aborted: bool | None = False,
        *,
        connection: Any | None = None,
    ) -> None:
        """Delete the jobs that ended more than so many hours ago, with their history, a thousand a transaction.

        With ``connection``, all in its transaction.

        Parameters
        ----------
        queue:
            Those of one queue only.
        include_failed, include_cancelled, include_aborted:
            Those too; without, only the jobs that succeeded.
        """
        choice = {
            Status.SUCCEEDED: True,
            Status.FAILED: include_failed,
            Status.CANCELLED: include_cancelled,
            Status.ABORTED: include_aborted,
        }
        delete = functools.partial(
            core.delete_finished_jobs,
            older_than=datetime.timedelta(hours=nb_hours),
            statuses=[status for status, included in choice.items() if included],
            queue_name=queue,
            limit=_DELETE_BATCH,
        )
        while await self._run_async(connection, delete) == _DELETE_BATCH:
            pass

    # The database

    async def read_clock(self) -> float:
        """What the time is by the database's clock, in seconds since 1970."""
        return await self.connector.run_async(core.read_clock)

    async def listen_for_jobs(
        self,
        *,
        on_notification: NotificationCallback,
        queues: Iterable[str] | None = None,
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        """Call ``on_notification`` for each notification about these queues, until cancelled."""

        async def handle(*, channel: str, payload: str) -> None:
            notification = parse_notification(payload)
            if notification is not None:
                await on_notification(channel=channel, notification=notification)

        await self.connector.listen_notify(handle, channels_for(queues), on_listening)

    def check_connection(self) -> bool:
        """Whether the tables are there."""
        return self._run(None, core.jobs_table_exists)

    async def check_connection_async(self) -> bool:
        """As :meth:`check_connection`."""
        return await self._run_async(None, core.jobs_table_exists)


def _defer_call(
    new_jobs: list[core.NewJob], on_conflict: OnConflict
) -> tuple[Callable[..., int | list[int] | None], Any]:
    """The operation that defers these jobs, and its argument: one statement wherever one is enough."""
    is_one = len(new_jobs) == 1
    if on_conflict != "raise" and _queueing_locks(new_jobs):
        if on_conflict == "replace":
            return core.defer_jobs_or_replace, new_jobs
        return (core.defer_job_or_skip, new_jobs[0]) if is_one else (core.defer_jobs_or_skip, new_jobs)
    if is_one:
        return core.defer_job, new_jobs[0]
    if _queueing_locks(new_jobs):
        return core.defer_jobs_or_none, new_jobs
    return core.defer_jobs, new_jobs


def _as_ids(deferred: int | list[int] | None) -> list[int] | None:
    return [deferred] if isinstance(deferred, int) else deferred


def _queueing_locks(new_jobs: Iterable[core.NewJob]) -> list[str]:
    return [job.queueing_lock for job in new_jobs if job.queueing_lock is not None]


def _raise_already_enqueued(queueing_lock: str | None) -> NoReturn:
    about = "one of the queueing locks" if queueing_lock is None else f"the queueing lock {queueing_lock!r}"
    raise exceptions.AlreadyEnqueued(f"A job is waiting under {about} already")


def _id(job: Job) -> int:
    if job.id is None:
        raise ValueError(f"Job {job.call_string} has no id: it was not deferred")
    return job.id


def _retry_changes(
    retry_at: datetime.datetime | None, priority: int | None, queue: str | None, lock: str | None
) -> dict[str, Any]:
    require_aware("retry_at", retry_at)
    return {"retry_at": retry_at, "priority": priority, "queue_name": queue, "lock": lock}


def _require_retried(job_id: int, retried: bool) -> None:
    if not retried:
        raise exceptions.JobNotRetriable(f"Job {job_id} does not exist, or is neither failed nor running")


def _require_found(job_id: int, found: R | None) -> R:
    if found is None:
        raise exceptions.NoResult(f"There is no job {job_id}: it was deleted, or it is not committed yet")
    return found
