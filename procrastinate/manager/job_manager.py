"""The queue, as users and workers use it: every operation, sync and async, with jobs in and jobs out."""

from __future__ import annotations

import datetime
import functools
import warnings
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar

from procrastinate import core, exceptions
from procrastinate._checks.times import require_aware
from procrastinate._quoting import Cut
from procrastinate._text.logs import Seldom, get_logger
from procrastinate.connector import BaseConnector
from procrastinate.core.channels import Notification, channels_for, parse_notification
from procrastinate.core.tables import QUEUEING_LOCK_CONSTRAINT
from procrastinate.jobs import Job, Status
from procrastinate.manager.defers import JobDefers
from procrastinate.manager.lists import JobLists
from procrastinate.manager.waiting import Waiter
from procrastinate.manager.worker_calls import WorkerOperations
from procrastinate.results import Result, to_result

__all__ = ["QUEUEING_LOCK_CONSTRAINT", "JobManager", "NotificationCallback"]

R = TypeVar("R")

_DELETE_BATCH = 1000


class NotificationCallback(Protocol):
    """What is called for each notification."""

    def __call__(self, *, channel: str, notification: Notification) -> Awaitable[None]: ...


class JobManager(JobDefers, WorkerOperations, JobLists):
    """Every operation on the queue. An app has one as ``app.job_manager``.

    What defers jobs, what workers need, and what lists jobs, is in its bases. Methods that take ``connection`` use an
    open connection of the user's, inside its transaction, and neither commit nor roll back.
    """

    def __init__(self, connector: BaseConnector) -> None:
        self.connector = connector
        self._waiter = Waiter(lambda: self.connector)

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
        """Asynchronous version of :meth:`retry_job_by_id`."""
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
            Leave a running job alone while its worker is alive. Sent back, it would run twice at once. A worker is
            alive for as long as it says that it may be silent, and for at least half a minute.

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
        """Asynchronous version of :meth:`retry_job_by_id`."""
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
        """Asynchronous version of :meth:`cancel_job_by_id`."""
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
        """Asynchronous version of :meth:`get_job_status`."""
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
        """Asynchronous version of :meth:`get_result`."""
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
        """Asynchronous version of :meth:`wait`."""
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
        seconds_since_heartbeat:
            Seconds. A worker whose own ``stalled_worker_timeout`` is longer is alive until that has passed.
        nb_seconds:
            Deprecated: running jobs that started longer ago than this, whatever their worker says.
        """
        if nb_seconds is not None:
            warnings.warn(
                "nb_seconds is deprecated: leave it out, and the jobs of workers without a sign of life are listed",
                DeprecationWarning,
                stacklevel=2,
            )
            operation = functools.partial(core.list_jobs_started_before, seconds=nb_seconds)
        else:
            operation = functools.partial(core.list_stalled_jobs, seconds_since_heartbeat=seconds_since_heartbeat)
        stored = await self._run_async(connection, operation, queue_name=queue, task_name=task_name)
        return self._jobs(stored)

    def delete_everything(self) -> None:
        """Delete all jobs, running ones too, with all history, and all workers: for tests that commit."""
        self._run(None, core.delete_everything)

    async def delete_everything_async(self) -> None:
        """Asynchronous version of :meth:`delete_everything`."""
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
            core.delete_finished_part,
            older_than=datetime.timedelta(hours=nb_hours),
            statuses=[status for status, included in choice.items() if included],
            queue_name=queue,
            limit=_DELETE_BATCH,
        )
        deletion = await self._run_async(connection, delete)
        while deletion.next_place is not None:
            deletion = await self._run_async(connection, functools.partial(delete, after=deletion.next_place))

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
            if notification is None:
                _malformed.note(Cut(payload, _LONGEST_PAYLOAD))
            else:
                await on_notification(channel=channel, notification=notification)

        await self.connector.listen_notify(handle, channels_for(queues), on_listening)

    def check_connection(self) -> bool:
        """Whether the tables are there."""
        return self._run(None, core.jobs_table_exists)

    async def check_connection_async(self) -> bool:
        """Asynchronous version of :meth:`check_connection`."""
        return await self._run_async(None, core.jobs_table_exists)


_LONGEST_PAYLOAD = 200
"""Characters of a malformed notification that the log shows."""
_malformed = Seldom(
    get_logger("procrastinate.manager"),
    "%d notifications of a form that this release does not know were ignored. Any role that can log in may send them. "
    "The last one: %s",
    "notification_malformed",
)


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
