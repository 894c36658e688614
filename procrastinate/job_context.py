"""What a task can know about the job that it runs for."""

from __future__ import annotations

import dataclasses
import enum
import functools
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar, overload

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from procrastinate import exceptions
from procrastinate.foreign_text import in_brief
from procrastinate.job_completion import JobCompletion, JobTransaction
from procrastinate.jobs import Job
from procrastinate.validation import dump_result

if TYPE_CHECKING:
    from procrastinate.app import App
    from procrastinate.tasks import Task


S = TypeVar("S", bound=Session)
A = TypeVar("A", bound=AsyncSession)


class AbortReason(enum.Enum):
    """Why a job is asked to stop."""

    USER_REQUEST = "user_request"
    """Somebody asked for it: the job should raise :class:`~procrastinate.exceptions.JobAborted`."""
    SHUTDOWN = "shutdown"
    """The worker stops. A job with a retry strategy runs again."""
    TIMEOUT = "timeout"
    """The task's timeout has passed. The run has failed already, whatever the task does now."""


@dataclasses.dataclass(kw_only=True)
class JobResult:
    """How long a run took, in seconds since 1970, and what it returned. For the log only."""

    start_timestamp: float
    end_timestamp: float | None = None
    result: Any = None

    def duration(self, current_timestamp: float) -> float | None:
        """Seconds from the start to the end, or until now."""
        return (self.end_timestamp or current_timestamp) - self.start_timestamp

    def as_dict(self) -> dict[str, Any]:
        """As it goes into the ``extra`` of a log record."""
        values = {"start_timestamp": self.start_timestamp, "duration": self.duration(time.time())}
        if self.end_timestamp is not None:
            values |= {"end_timestamp": self.end_timestamp, "result": in_brief(self.result)}
        return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobContext:
    """Given as first argument to tasks declared with ``pass_context=True``, and to middleware.

    Parameters
    ----------
    app:
        The app that the worker runs.
    worker_name, worker_queues:
        As the worker was started; ``None`` for all queues.
    job:
        As it was fetched: ``job.attempts`` counts the runs before this one.
    start_timestamp:
        When the run began, in seconds since 1970.
    additional_context:
        A copy of what the worker was started with, for this job alone.
    """

    app: App
    worker_name: str | None = None
    worker_queues: Iterable[str] | None = None
    job: Job
    start_timestamp: float = dataclasses.field(default_factory=time.time)
    additional_context: dict[str, Any] = dataclasses.field(default_factory=dict)
    abort_reason: Callable[[], AbortReason | None] = lambda: None
    """Call it: why the job should stop, or ``None`` to go on."""
    completion: JobCompletion | None = dataclasses.field(default=None, repr=False)
    """The worker's, for :meth:`transaction`."""

    @property
    def task(self) -> Task[Any, Any, Any]:
        """The task that runs."""
        task = self.app.find_task_of(self.job)
        if task is None:
            raise exceptions.TaskNotFound(f"Task {self.job.task_name!r} is not registered in this app")
        return task

    @property
    def queues_display(self) -> str:
        """The worker's queues, for a person to read."""
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
        """A transaction that ends the job: what the task writes in it and the job's success are committed together.

        So the effects in your own database happen exactly once, whatever becomes of the worker. Where the job is no
        longer this worker's, or the block raises, everything is rolled back, and the run has raised. After the block
        the job has succeeded, whatever the task does then. Jobs deferred with ``connection=`` inside belong to it, too.

        Parameters
        ----------
        bind:
            What leads to the database of the jobs: an ``Engine`` or ``AsyncEngine`` (the block gets a connection), a
            ``sessionmaker`` or ``async_sessionmaker`` (the block gets a session); or an open session or connection in
            no transaction, which stays open. In a Django project, nothing: the block is inside ``atomic()`` of the
            jobs' database, with ``with`` in a sync task and ``async with`` in an async one.

        Raises
        ------
        JobNotHeld
            At the end of the block: the worker was taken for dead, say, and another runs the job.
        RuntimeError
            The job has such a transaction already, or none runs: a context was made by hand.
        TypeError, ValueError
            ``bind`` is something else, or in autocommit.
        """
        completion = self._require_completion()
        last = functools.partial(completion.operation, announce=self.task.store_result)
        return JobTransaction(self.app.connector.transaction(bind, last), completion)

    def set_result(self, value: Any) -> None:
        """Keep a value as the job's result, in its :meth:`transaction`: what the task returns comes too late for that.

        Raises
        ------
        InvalidResult
            It cannot be stored.
        RuntimeError
            The task is not declared with ``store_result=True``, or the transaction is over.
        """
        completion = self._require_completion()
        if not self.task.store_result or completion.is_recorded:
            raise RuntimeError(
                "context.set_result() is for tasks declared with store_result=True, and for before the end of their "
                "context.transaction()"
            )
        size = self.task.max_result_size
        dumps = self.app.connector.json_dumps
        completion.result = dump_result(value, dumps, task_name=self.task.name, max_size=size)

    def _require_completion(self) -> JobCompletion:
        if self.completion is None:
            raise RuntimeError("This works where a worker runs the job: the context was made by hand")
        return self.completion

    def should_abort(self) -> bool:
        """Whether the job is asked to stop. A sync task that can stop halfway asks now and then."""
        return self.abort_reason() is not None

    def evolve(self, **changes: Any) -> JobContext:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def queues_display(queues: Iterable[str] | None) -> str:
    """Queues, for a person to read."""
    return "all queues" if queues is None else f"queues {', '.join(queues)}"
