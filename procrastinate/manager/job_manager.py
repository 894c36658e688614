"""The job manager: every operation on the queue, sync and async."""

from __future__ import annotations

import datetime
import functools
import warnings
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar

from procrastinate import core, exceptions
from procrastinate._checks.ids import asked_id
from procrastinate._job import Job
from procrastinate._text.logs import Seldom, get_logger
from procrastinate.connector import BaseConnector
from procrastinate.core.channels import Notification, channels_for, parse_notification
from procrastinate.core.defaults import LONGEST
from procrastinate.core.enums import Status
from procrastinate.core.tables import QUEUEING_LOCK_CONSTRAINT
from procrastinate.defer_hooks import Hooks
from procrastinate.manager.defers import JobDefers
from procrastinate.manager.lists import JobLists
from procrastinate.manager.operation_calls import require_found
from procrastinate.manager.refused_rows import RefusedRows
from procrastinate.manager.report_calls import ReportCalls
from procrastinate.manager.unique_defers import UniqueDefers
from procrastinate.manager.waiting import Waiter
from procrastinate.manager.worker_calls import WorkerOperations
from procrastinate.manager.workflow_calls import WorkflowOperations
from procrastinate.results import Result, to_result
from procrastinate.retry import RetryDecision

__all__ = ["QUEUEING_LOCK_CONSTRAINT", "JobManager", "NotificationCallback"]

R = TypeVar("R")

_DELETE_BATCH = 1000
_WORKFLOWS_DELETED = 20
"""Workflows of one statement. Each may have a thousand jobs."""


class NotificationCallback(Protocol):
    """Callback for each notification."""

    def __call__(self, *, channel: str, notification: Notification) -> Awaitable[None]: ...


class JobManager(JobDefers, UniqueDefers, WorkerOperations, JobLists, ReportCalls, WorkflowOperations):
    """Every operation on the queue, available as ``app.job_manager``.

    The base classes defer jobs, serve workers, list jobs, read what runs report and look after workflows. A method with
    a ``connection`` parameter runs on that open connection, inside its transaction, and neither commits nor rolls back.
    """

    def __init__(self, connector: BaseConnector, hooks: Hooks | None = None) -> None:
        self.connector = connector
        self.hooks = Hooks() if hooks is None else hooks
        self.refused_rows = RefusedRows()
        self._waiter = Waiter(lambda: self.connector)

    # Finish, by hand

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """Record the outcome of a job. If the job has a worker, do so only while that worker still holds the job.

        Raises
        ------
        JobNotFinishable
            The job has ended, or does not exist, or another worker has it.
        """
        if job.worker_id is None:
            await self.finish_job_by_id_async(_id(job), status=status, delete_job=delete_job)
            return
        finished = core.FinishedJob(id=_id(job), attempts=job.attempts, status=status, delete=delete_job)
        if not await self.finish_jobs([finished], worker_id=job.worker_id):
            raise _not_finishable(finished.id)

    async def finish_job_by_id_async(self, job_id: int, status: Status, delete_job: bool) -> None:
        """Record the outcome of a waiting or running job, regardless of the worker that holds it.

        Raises
        ------
        JobNotFinishable
            The job has ended, or does not exist.
        """
        if not await self._change_one_async(
            None, core.finish_job_by_id, asked_id(job_id), status=status, delete=delete_job
        ):
            raise _not_finishable(job_id)

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
        """Retry this job. Parameters and exceptions are those of :meth:`retry_job_by_id`."""
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
        """Put a failed job, or a running job whose worker is lost, back into the queue.

        Parameters
        ----------
        retry_at:
            The earliest start, as an aware datetime. ``None`` means at once.
        priority, queue, lock:
            New values. ``None`` keeps the current value.
        spare_running:
            If true, leave a running job alone while its worker is alive. Otherwise the job would run twice at the same
            time. A worker counts as alive until its last heartbeat is older than its own ``stalled_worker_timeout``,
            and older than 30 seconds.

        Raises
        ------
        JobNotRetriable
            The job does not exist, is neither failed nor running, or was spared.
        InvalidJob, ValueError
            The priority, the queue or the lock cannot be stored, or ``retry_at`` is naive.
        """
        changes = _retry_changes(retry_at, priority, queue, lock)
        _require_retried(
            job_id,
            self._change_one(
                connection, core.retry_job_by_id, asked_id(job_id), **changes, spare_running=spare_running
            ),
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
            await self._change_one_async(
                connection, core.retry_job_by_id, asked_id(job_id), **changes, spare_running=spare_running
            ),
        )

    # Cancel, abort, status

    def cancel_job_by_id(
        self, job_id: int, abort: bool = False, delete_job: bool = False, connection: Any | None = None
    ) -> bool:
        """Cancel a waiting job.

        Parameters
        ----------
        abort:
            If the job is running, request its abort.
        delete_job:
            Delete the waiting job instead of keeping it with the status ``cancelled``.

        Returns
        -------
        True if the job was cancelled or its abort requested, false if it was in no such state.
        """
        return self._change_one(connection, core.cancel_job, asked_id(job_id), abort=abort, delete=delete_job)

    async def cancel_job_by_id_async(
        self, job_id: int, abort: bool = False, delete_job: bool = False, connection: Any | None = None
    ) -> bool:
        """Asynchronous version of :meth:`cancel_job_by_id`."""
        return await self._change_one_async(
            connection, core.cancel_job, asked_id(job_id), abort=abort, delete=delete_job
        )

    def get_job_status(self, job_id: int, connection: Any | None = None) -> Status:
        """Return the status of a job.

        Raises
        ------
        NoResult
            The job does not exist.
        """
        return require_found(job_id, self._run(connection, core.get_job_status, asked_id(job_id)))

    async def get_job_status_async(self, job_id: int, connection: Any | None = None) -> Status:
        """Asynchronous version of :meth:`get_job_status`."""
        return require_found(job_id, await self._run_async(connection, core.get_job_status, asked_id(job_id)))

    # Results

    def get_result(self, job_id: int, connection: Any | None = None, *, newest_errors: int | None = None) -> Result:
        """Return the status, return value, errors, times and workers of a job, in one round trip.

        Parameters
        ----------
        newest_errors:
            Read the errors of that many attempts, which suits a job that is retried without an end. ``None`` reads all.

        Raises
        ------
        NoResult
            The job does not exist: it was deleted, or the transaction that defers it is not committed.
        """
        stored = self._run(connection, core.get_result, asked_id(job_id), newest_errors=newest_errors)
        return self._result(job_id, stored)

    async def get_result_async(
        self, job_id: int, connection: Any | None = None, *, newest_errors: int | None = None
    ) -> Result:
        """Asynchronous version of :meth:`get_result`."""
        stored = await self._run_async(connection, core.get_result, asked_id(job_id), newest_errors=newest_errors)
        return self._result(job_id, stored)

    def wait(self, job_id: int, *, timeout: float) -> Result:
        """Wait until a job has finished, with any status, and return its result.

        If the task has ``store_result=True`` and the database allows listening, a notification ends the wait.
        Otherwise polling detects the end within a second.

        Parameters
        ----------
        timeout:
            Maximum wait in seconds.

        Raises
        ------
        WaitTimeout
            The job has not finished in time. It is a ``TimeoutError``.
        JobNotCommitted
            The job was deferred in the caller's own transaction, which is still open, so no worker can run it.
        NoResult
            The job does not exist: the transaction that defers it is not committed, or the job was deleted at its end.
        """
        self._waiter.wait(job_id, timeout)
        return self.get_result(job_id)

    async def wait_async(self, job_id: int, *, timeout: float) -> Result:  # noqa: ASYNC109
        """Asynchronous version of :meth:`wait`."""
        await self._waiter.wait_async(job_id, timeout)
        return await self.get_result_async(job_id)

    def _result(self, job_id: int, stored: core.StoredResult | None) -> Result:
        stored = require_found(job_id, stored)
        return to_result(stored, self._job(stored.job), self.connector.json_loads)

    async def list_jobs_to_abort_async(self, queue: str | None = None, worker_id: int | None = None) -> Iterable[int]:
        """Return the ids of running jobs with an abort request, optionally of one queue or one worker."""
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
        """Return the running jobs whose worker has stalled or is gone.

        This is for inspection only, because workers rescue stalled jobs by themselves. Do not retry the jobs.
        This is a single look, so after a standstill of the database it may return jobs of live workers.

        Parameters
        ----------
        queue, task_name:
            Only jobs of this queue or this task.
        seconds_since_heartbeat:
            Age of the last heartbeat in seconds after which a worker counts as stalled. If the worker's own
            ``stalled_worker_timeout`` is longer, that value counts.
        nb_seconds:
            Deprecated. Return the running jobs that started more than this many seconds ago, regardless of heartbeats.
        """
        if nb_seconds is not None:
            warnings.warn(
                "nb_seconds is deprecated: leave it out to list the jobs of workers without a recent heartbeat",
                DeprecationWarning,
                stacklevel=2,
            )
            operation = functools.partial(core.list_jobs_started_before, seconds=min(nb_seconds, LONGEST))
        else:
            seconds = min(seconds_since_heartbeat, LONGEST)
            operation = functools.partial(core.list_stalled_jobs, seconds_since_heartbeat=seconds)
        stored = await self._run_async(connection, operation, queue_name=queue, task_name=task_name)
        return self._jobs(stored)

    def delete_everything(self) -> None:
        """Delete all jobs, including running ones, their history and all workers. It is meant for tests that commit."""
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
        """Delete the jobs that finished more than ``nb_hours`` hours ago, with their history.

        Each transaction deletes up to a thousand jobs, and fewer if ``statement_timeout`` stops it. With
        ``connection``, its transaction deletes all of them. A workflow is deleted as a whole once it has ended, by its
        own state.

        Parameters
        ----------
        queue:
            Delete only jobs of this queue.
        include_failed, include_cancelled, include_aborted:
            Delete jobs with these statuses, too. By default only succeeded jobs are deleted.
        """
        choice = {
            Status.SUCCEEDED: True,
            Status.FAILED: include_failed,
            Status.CANCELLED: include_cancelled,
            Status.ABORTED: include_aborted,
        }
        old: dict[str, Any] = {
            "older_than": datetime.timedelta(hours=min(nb_hours, LONGEST / 3600)),
            "statuses": [status for status, included in choice.items() if included],
            "queue_name": queue,
        }
        while await self._delete_workflows(connection, **old):
            pass
        place: core.DeletionPlace | None = None
        while True:
            place = (await self._delete_part(connection, after=place, **old)).next_place
            if place is None:
                return

    async def _delete_workflows(self, connection: Any | None, **old: Any) -> int:
        if connection is not None:
            return await self._run_async(connection, core.delete_old_workflows, **old)
        deleted, _ = await self._follow_async(
            self.refused_rows.work_around(
                core.delete_old_workflows, limit=_WORKFLOWS_DELETED, fewer_after_timeout=True, **old
            )
        )
        return deleted

    async def _delete_part(self, connection: Any | None, **old: Any) -> core.Deletion:
        """Delete some jobs. A statement that fails ends the transaction of the user, so none is tried again there."""
        if connection is not None:
            return await self._run_async(connection, core.delete_finished_part, limit=_DELETE_BATCH, **old)
        deletion, _ = await self._follow_async(
            self.refused_rows.work_around(
                core.delete_finished_part, limit=_DELETE_BATCH, fewer_after_timeout=True, **old
            )
        )
        return deletion

    # The database

    async def read_clock(self) -> float:
        """Return the time of the database's clock, in seconds since 1970."""
        return await self.connector.run_async(core.read_clock)

    async def listen_for_jobs(
        self,
        *,
        on_notification: NotificationCallback,
        queues: Iterable[str] | None = None,
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        """Call ``on_notification`` for each notification about these queues, until cancelled.

        Parameters
        ----------
        queues:
            Names of the queues. ``None`` means all queues.
        on_listening:
            Called once the connection listens. Earlier notifications are lost.
        """

        async def handle(*, channel: str, payload: str) -> None:
            notification = parse_notification(payload)
            if notification is None:
                _malformed.note(payload)
            else:
                await on_notification(channel=channel, notification=notification)

        await self.connector.listen_notify(handle, channels_for(queues), on_listening)

    def check_connection(self) -> bool:
        """Return true if the database has the tables of Procrastinate."""
        return self._run(None, core.jobs_table_exists)

    async def check_connection_async(self) -> bool:
        """Asynchronous version of :meth:`check_connection`."""
        return await self._run_async(None, core.jobs_table_exists)


_LONGEST_PAYLOAD = 200
"""Maximum number of characters of a malformed notification in the log."""
_malformed = Seldom(
    get_logger("procrastinate.manager.job_manager"),
    "Ignored %d notifications in an unknown format. Any role that can log in can send them. The last one: %s",
    "notification_malformed",
    longest=_LONGEST_PAYLOAD,
)


def _id(job: Job) -> int:
    if job.id is None:
        raise ValueError(f"Job {job.call_string} has no id: it was not deferred")
    return job.id


def _retry_changes(
    retry_at: datetime.datetime | None, priority: int | None, queue: str | None, lock: str | None
) -> dict[str, Any]:
    decision = RetryDecision(retry_at=retry_at, priority=priority, queue=queue, lock=lock)
    return {"retry_at": retry_at, "priority": priority, "queue_name": queue, "lock": decision.lock}


def _require_retried(job_id: int, retried: bool) -> None:
    if not retried:
        raise exceptions.JobNotRetriable(f"Job {job_id} does not exist, or is neither failed nor running")


def _not_finishable(job_id: int) -> exceptions.JobNotFinishable:
    return exceptions.JobNotFinishable(
        f'Job {job_id} cannot be finished: it does not exist, is not in "doing" or "todo" status, or another worker '
        "has it"
    )
