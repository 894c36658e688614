"""The context of a running job: its worker, abort requests, and a transaction that ends the job."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import functools
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar, overload

import sqlalchemy as sa

from procrastinate import core, exceptions
from procrastinate._checks.progress import check_progress, dump_progress
from procrastinate._job import Job
from procrastinate._job_checks import dump_result
from procrastinate._job_completion import JobCompletion, JobTransaction
from procrastinate._quoting import in_brief
from procrastinate.core.enums import ReportKind
from procrastinate.core.errors import is_lock_timeout
from procrastinate.rates import read_period
from procrastinate.types import TimeDeltaParams

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import (
        AsyncConnection,
        AsyncEngine,
        AsyncSession,
        async_scoped_session,
        async_sessionmaker,
    )
    from sqlalchemy.orm import Session, scoped_session, sessionmaker

    from procrastinate.app import App
    from procrastinate.connector import BaseConnector
    from procrastinate.tasks import Task
    from procrastinate.workflows.running import RunningStep


_LONGEST_HOLD_OFF = 30.0
"""Seconds that a hold-off waits for a row that another session has locked."""
_TRY_AGAIN_AFTER = 0.1

S = TypeVar("S", bound="Session")
A = TypeVar("A", bound="AsyncSession")


class AbortReason(enum.Enum):
    """Why a running job must stop."""

    USER_REQUEST = "user_request"
    """A user requested the abort. The task raises :class:`~procrastinate.exceptions.JobAborted`."""
    SHUTDOWN = "shutdown"
    """The worker shuts down. A job with a retry strategy runs again."""
    TIMEOUT = "timeout"
    """The run exceeded the task's timeout. It counts as failed, whatever the task still does."""


@dataclasses.dataclass(kw_only=True)
class JobResult:
    """Start, end (in seconds since 1970) and return value of a run, for log records."""

    start_timestamp: float
    end_timestamp: float | None = None
    result: Any = None

    def duration(self, current_timestamp: float) -> float | None:
        """Return the seconds from the start to the end, or to ``current_timestamp`` if the run has not ended."""
        return (self.end_timestamp or current_timestamp) - self.start_timestamp

    def as_dict(self) -> dict[str, Any]:
        """Return the values for the ``extra`` of a log record."""
        values = {"start_timestamp": self.start_timestamp, "duration": self.duration(time.time())}
        if self.end_timestamp is not None:
            values |= {"end_timestamp": self.end_timestamp, "result": in_brief(self.result)}
        return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobContext:
    """First argument of tasks declared with ``pass_context=True``, and an argument of middleware.

    Parameters
    ----------
    app:
        The app of the worker.
    worker_name, worker_queues:
        The worker's name and queues. ``None`` means all queues.
    job:
        The job as fetched. ``job.attempts`` counts the runs before this one.
    start_timestamp:
        Start of the run, in seconds since 1970.
    additional_context:
        A copy of the worker's ``additional_context``, made for this job.
    """

    app: App
    worker_name: str | None = None
    worker_queues: Iterable[str] | None = None
    job: Job
    start_timestamp: float = dataclasses.field(default_factory=time.time)
    additional_context: dict[str, Any] = dataclasses.field(default_factory=dict)
    abort_reason: Callable[[], AbortReason | None] = lambda: None
    """A function that returns why the job must stop, or ``None`` if the job may go on."""
    completion: JobCompletion | None = dataclasses.field(default=None, repr=False)
    """State of :meth:`transaction`, shared with the worker. ``None`` if no worker runs the job."""
    report: Callable[[ReportKind, Callable[[], str]], None] | None = dataclasses.field(default=None, repr=False)
    """Takes a report of the run for the worker to write. ``None`` if no worker runs the job."""
    worker_connector: BaseConnector | None = dataclasses.field(default=None, repr=False)
    """The worker's own connector. What it runs is in no transaction of the task. ``None`` if no worker runs the job."""

    @property
    def task(self) -> Task[Any, Any, Any]:
        """The task of the job.

        Raises
        ------
        TaskNotFound
            The app has no task of this name.
        """
        task = self.app.find_task_of(self.job)
        if task is None:
            raise exceptions.TaskNotFound(f"Task {self.job.task_name!r} is not registered in this app")
        return task

    @property
    def workflow(self) -> RunningStep:
        """The workflow of the job. It reads the values of other steps and adds steps.

        Raises
        ------
        InvalidWorkflow
            The job is no step of a workflow. It is a ``ValueError``.
        """
        return self.app.workflow_of(self.job)

    @property
    def queues_display(self) -> str:
        """The worker's queues as text, for log messages."""
        return queues_display(self.worker_queues)

    @overload
    def transaction(self, bind: sessionmaker[S]) -> AbstractContextManager[S]: ...
    @overload
    def transaction(self, bind: scoped_session[S]) -> AbstractContextManager[scoped_session[S]]: ...
    @overload
    def transaction(self, bind: S) -> AbstractContextManager[S]: ...
    @overload
    def transaction(self, bind: sa.Engine | sa.Connection) -> AbstractContextManager[sa.Connection]: ...
    @overload
    def transaction(self, bind: async_sessionmaker[A]) -> AbstractAsyncContextManager[A]: ...
    @overload
    def transaction(self, bind: async_scoped_session[A]) -> AbstractAsyncContextManager[async_scoped_session[A]]: ...
    @overload
    def transaction(self, bind: A) -> AbstractAsyncContextManager[A]: ...
    @overload
    def transaction(self, bind: AsyncEngine | AsyncConnection) -> AbstractAsyncContextManager[AsyncConnection]: ...
    @overload
    def transaction(self, bind: None = None) -> JobTransaction[None]: ...
    def transaction(self, bind: Any = None) -> Any:
        """Open a transaction that commits the task's writes together with the success of the job.

        The writes happen exactly once, even if the worker crashes. If the block raises, or if this worker has lost the
        job, everything is rolled back and the run raises. After the block the job has succeeded, whatever the task
        still does. Jobs deferred inside the block with ``connection=`` are part of the transaction.

        Parameters
        ----------
        bind:
            The way to the database of the jobs. With an ``Engine`` or ``AsyncEngine``, the block gets a connection.
            With a ``sessionmaker`` or ``async_sessionmaker``, it gets a session. An open session or connection must
            not be in a transaction, and it stays open. In a Django project, leave ``bind`` out: the block runs inside
            ``atomic()`` on the jobs' database. Write ``with`` in a sync task and ``async with`` in an async task.

        Raises
        ------
        JobNotHeld
            Raised at the end of the block if the job no longer belongs to this worker, for example because the worker
            was taken for dead and another worker runs the job.
        RuntimeError
            The job already has such a transaction, ``bind`` is already in a transaction, or no worker runs the job
            because the context was made by hand.
        TypeError, ValueError
            ``bind`` has another type or is in autocommit mode.
        """
        completion = self._require_completion()
        last = functools.partial(completion.operation, announce=self.task.store_result)
        return JobTransaction(self.app.connector.transaction(bind, last), completion)

    def set_result(self, value: Any) -> None:
        """Store a value as the job's result inside its :meth:`transaction`.

        The return value of the task comes too late, because the transaction has already ended the job.

        Raises
        ------
        InvalidResult
            The value cannot be stored.
        RuntimeError
            The task is not declared with ``store_result=True``, or the transaction is over.
        """
        completion = self._require_completion()
        if not self.task.store_result or completion.is_recorded:
            raise RuntimeError(
                "context.set_result() needs a task declared with store_result=True, and must be called before the end "
                "of context.transaction()"
            )
        size = self.task.max_result_size
        dumps = self.app.connector.json_dumps
        completion.result = dump_result(value, dumps, task_name=self.task.name, max_size=size)

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far the job is, for the dashboard and for ``app.job_manager.get_progress()``.

        The call takes a microsecond and works in sync and in async tasks. The worker writes the newest progress of its
        jobs once a second. Outside a worker the call does nothing.

        Parameters
        ----------
        done:
            What is done, as a finite number of at least 0.
        total:
            What there is to do. ``None`` if that is unknown.
        message:
            A short text. It is cut after 1,000 characters.

        Raises
        ------
        TypeError, ValueError
            ``done`` or ``total`` is no such number.
        """
        progress = check_progress(done, total, message)
        if self.report is not None:
            self.report(ReportKind.PROGRESS, functools.partial(dump_progress, progress))

    def hold_off(self, seconds: float | TimeDeltaParams | datetime.timedelta) -> None:
        """Start no further job of the limit of this job for a time, for example because a service asks for a break.

        The hold-off is for the key that this job has, on all workers, by the clock of the server. It is stored at once,
        and stays if the worker is killed. Of two hold-offs, the one that ends later counts. A job that a worker has
        already claimed still runs. A rollback of the task's own transaction does not undo the hold-off.

        Parameters
        ----------
        seconds:
            A number of seconds, a :class:`datetime.timedelta` or its keyword arguments, such as ``{"minutes": 1}``. It
            is at least a millisecond and at most 366 days.

        Raises
        ------
        RuntimeError
            The job has no limit.
        TypeError, ValueError
            ``seconds`` is invalid.
        """
        connector = self.worker_connector or self.app.connector
        job_id, wait = self._wait(seconds)
        ends_at = time.monotonic() + _LONGEST_HOLD_OFF
        while True:
            try:
                has_limit = connector.run(core.briefly, core.hold_off_key_of, job_id, wait)
                break
            except exceptions.ConnectorException as error:
                _require_lock_timeout(error, ends_at)
            time.sleep(_TRY_AGAIN_AFTER)
        self._require_limit(has_limit)

    async def hold_off_async(self, seconds: float | TimeDeltaParams | datetime.timedelta) -> None:
        """Asynchronous version of :meth:`hold_off`."""
        connector = self.worker_connector or self.app.connector
        job_id, wait = self._wait(seconds)
        ends_at = time.monotonic() + _LONGEST_HOLD_OFF
        while True:
            try:
                has_limit = await connector.run_async(core.briefly, core.hold_off_key_of, job_id, wait)
                break
            except exceptions.ConnectorException as error:
                _require_lock_timeout(error, ends_at)
            await asyncio.sleep(_TRY_AGAIN_AFTER)
        self._require_limit(has_limit)

    def _wait(self, seconds: Any) -> tuple[int, float]:
        """Return the id of the job and a number of seconds, the arguments of a hold-off."""
        wait = read_period("seconds of hold_off()", seconds)
        if self.job.id is None:
            raise RuntimeError("hold_off() works only in a job that is stored: this context was made by hand")
        return self.job.id, wait

    def _require_limit(self, has_limit: bool) -> None:
        if not has_limit:
            raise RuntimeError(
                f"This job of task {self.job.task_name!r} has no limit that could be held off: declare the task with "
                "limit=Limit(...), whose by= gives the job a key"
            )

    def _require_completion(self) -> JobCompletion:
        if self.completion is None:
            raise RuntimeError("This works only while a worker runs the job: this context was made by hand")
        return self.completion

    def should_abort(self) -> bool:
        """Return true if the job must stop. A sync task that can stop early checks this from time to time."""
        return self.abort_reason() is not None

    def evolve(self, **changes: Any) -> JobContext:
        """Return a copy with these fields changed."""
        return dataclasses.replace(self, **changes)


def _require_lock_timeout(error: exceptions.ConnectorException, ends_at: float) -> None:
    """Raise an error, unless it is a lock timeout and time is left for another try.

    Each try is short, and there are pauses. The connection is that of the heartbeats of the worker, which go on then.
    """
    if not is_lock_timeout(error) or time.monotonic() > ends_at:
        raise error


def queues_display(queues: Iterable[str] | None) -> str:
    """Return the queues as text, for log messages."""
    return "all queues" if queues is None else f"queues {', '.join(queues)}"
