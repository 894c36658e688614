"""Completion of a job in the transaction of its task, so that the effects of the task happen exactly once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

from procrastinate import core
from procrastinate._job import DeleteJobCondition, Job
from procrastinate.core.enums import Status

T = TypeVar("T")


class JobCompletion:
    """State of the transaction that completes one run of a job."""

    def __init__(self, job: Job, delete_jobs: DeleteJobCondition) -> None:
        self._job = job
        self._delete = job.workflow_id is None and delete_jobs.covers(Status.SUCCEEDED)
        self._is_open = False
        self.is_recorded = False
        self.result: str | None = None
        """Result of the job as JSON text, to store with its completion."""

    def operation(self, *, announce: bool) -> Callable[..., None]:
        """Return the operation that completes the job. Run it last in the transaction.

        Parameters
        ----------
        announce:
            If true, notify programs that wait for the job.
        """
        assert self._job.id is not None
        assert self._job.worker_id is not None
        finished = core.FinishedJob(
            id=self._job.id,
            attempts=self._job.attempts,
            status=Status.SUCCEEDED,
            delete=self._delete,
            result=self.result,
            announce=announce,
        )
        return functools.partial(core.complete_job, finished=finished, worker_id=self._job.worker_id)

    def begin(self) -> None:
        """Record that a transaction starts. After a rollback, another one may start.

        Raises
        ------
        RuntimeError
            A transaction of the job is open, or was committed.
        """
        if self.is_recorded or self._is_open:
            state = "has been committed" if self.is_recorded else "is open"
            raise RuntimeError(
                f"context.transaction() of job {self._job.call_string} {state} already: a job has one, and ends with it"
            )
        self._is_open = True

    def end(self, *, committed: bool) -> None:
        """Record that the transaction is over."""
        self._is_open = False
        self.is_recorded = committed


class JobTransaction(Generic[T]):
    """Context manager of ``context.transaction(...)``, for ``with`` or, if it is asynchronous, ``async with``."""

    def __init__(
        self, transaction: AbstractContextManager[T] | AbstractAsyncContextManager[T], completion: JobCompletion
    ) -> None:
        self._transaction: Any = transaction
        self._completion = completion

    @property
    def _has_committed(self) -> bool:
        """True if the transaction knows that it has committed although its end raised."""
        return bool(getattr(self._transaction, "has_committed", False))

    def __enter__(self) -> T:
        if not hasattr(self._transaction, "__enter__"):
            raise TypeError("This transaction is asynchronous: write `async with context.transaction(...)`")
        self._completion.begin()
        try:
            opened: T = self._transaction.__enter__()
        except BaseException:
            self._completion.end(committed=False)
            raise
        return opened

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        committed = False
        try:
            self._transaction.__exit__(kind, error, traceback)
            committed = error is None
        finally:
            self._completion.end(committed=committed or self._has_committed)

    async def __aenter__(self) -> T:
        if not hasattr(self._transaction, "__aenter__"):
            raise TypeError("This transaction is synchronous: write `with context.transaction(...)`")
        self._completion.begin()
        try:
            opened: T = await self._transaction.__aenter__()
        except BaseException:
            self._completion.end(committed=False)
            raise
        return opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        committed = False
        try:
            await self._transaction.__aexit__(kind, error, traceback)
            committed = error is None
        finally:
            self._completion.end(committed=committed or self._has_committed)
