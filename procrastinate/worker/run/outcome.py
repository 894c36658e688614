"""How a run ended, and what becomes of the job: a pure decision."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

from procrastinate import core, exceptions
from procrastinate._job_checks import dump_result
from procrastinate._text.tracebacks import describe
from procrastinate.job_context import AbortReason
from procrastinate.jobs import DeleteJobCondition, Job, Status
from procrastinate.retry import RetryDecision, read_decision
from procrastinate.tasks import Task

_UNSTARTED_DELAY = 5
"""Seconds after which a job is tried again that could not be started."""

Run: TypeAlias = tuple[int | None, int, int | None]
"""Id, attempts and worker of a job: one run of it. The job may run again before the outcome of a run is written."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunResult:
    """What the task did: returned, or raised; and whether it was asked to stop meanwhile."""

    value: Any = None
    exception: BaseException | None = None
    abort_reason: AbortReason | None = None
    release_in: float | None = None
    """Seconds after which another worker may start the job: this one does not know the task, and has run nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is to be recorded of a job."""

    job: Job
    status: Status
    """``TODO`` with a retry decision, or if the job is released."""
    exception: BaseException | None = None
    retry_decision: RetryDecision | None = None
    is_recorded: bool = False
    """The task's own transaction has recorded it."""
    result: str | None = None
    """What the task returned or has set, as JSON text, where it is kept."""
    error: core.NewError | None = None
    """The exception, where it is to be kept."""
    announce: bool = False
    """Whether somebody may wait for the job."""
    release_in: float | None = None
    """Seconds after which another worker may start the job, which has not run here: nothing is recorded of it."""
    is_left: bool = False
    """The job goes on in a thread that nothing can stop. Nothing is recorded: it must not start elsewhere yet."""

    @property
    def job_id(self) -> int:
        """The id of the job, which has been stored."""
        assert self.job.id is not None
        return self.job.id

    @property
    def run(self) -> Run:
        """The run that this is the outcome of."""
        return run_of(self.job)

    def as_finished(self, delete_jobs: DeleteJobCondition) -> core.FinishedJob:
        """For :func:`procrastinate.core.finish_jobs`."""
        return core.FinishedJob(
            id=self.job_id,
            attempts=self.job.attempts,
            status=self.status,
            delete=delete_jobs.covers(self.status),
            result=self.result,
            error=self.error,
            announce=self.announce,
        )

    def as_retry(self) -> core.JobRetry:
        """For :func:`procrastinate.core.retry_jobs`."""
        assert self.retry_decision is not None
        return core.JobRetry(
            id=self.job_id,
            attempts=self.job.attempts,
            retry_at=self.retry_decision.fixed_retry_at,
            retry_in=self.retry_decision.seconds,
            priority=self.retry_decision.priority,
            queue_name=self.retry_decision.queue,
            lock=self.retry_decision.lock,
            error=self.error,
        )

    def without_retry(self) -> Outcome:
        """The same, as failed: for a retry that cannot be written."""
        return dataclasses.replace(self, status=Status.FAILED, retry_decision=None)

    def without_result(self, error: BaseException) -> Outcome:
        """The same, as failed: for a return value that the database does not take."""
        refused = exceptions.InvalidResult(f"What task {self.job.task_name} returned cannot be stored: {error}")
        kept = describe(refused)
        return dataclasses.replace(self, status=Status.FAILED, exception=refused, result=None, error=kept)


def run_of(job: Job) -> Run:
    """Return the run of a job that was fetched."""
    return job.id, job.attempts, job.worker_id


def decide(job: Job, task: Task[Any, Any, Any] | None, result: RunResult) -> Outcome:
    """What becomes of a job.

    A task that returned has succeeded, even when it was asked to stop. One that stopped on a user's request is
    aborted, whatever its retry strategy says. One that stopped because the worker stops is tried again if it has
    a retry strategy that says so. One that was out of time has raised, unless a user had asked it to stop.
    """
    exception = result.exception
    if result.release_in is not None:
        return Outcome(job=job, status=Status.TODO, release_in=result.release_in)
    if exception is None:
        return Outcome(job=job, status=Status.SUCCEEDED)
    stopped = _stopped(exception, result.abort_reason)
    if stopped and result.abort_reason is not AbortReason.SHUTDOWN:
        return Outcome(job=job, status=Status.ABORTED, exception=exception)
    decision = None if task is None else _retry_decision(task, exception, job)
    if decision is not None:
        return Outcome(job=job, status=Status.TODO, exception=exception, retry_decision=decision)
    return Outcome(job=job, status=Status.ABORTED if stopped else Status.FAILED, exception=exception)


def decide_cut_short(job: Job, *, store_errors: bool) -> Outcome:
    """What becomes of a job that was cancelled because its worker ends at once: it runs again, as if that had died."""
    error = exceptions.WorkerLost("The worker was ended at once while the job ran")
    kept = describe(error) if store_errors else None
    return Outcome(job=job, status=Status.TODO, exception=error, retry_decision=RetryDecision(), error=kept)


def decide_unstarted(job: Job, error: BaseException, *, store_errors: bool) -> Outcome:
    """Decide what becomes of a job that could not be started: it is tried again, as after an error of its own.

    It is not released, for that needs another asyncio task, and the next one may not start either.
    """
    kept = describe(error) if store_errors else None
    decision = RetryDecision(retry_in={"seconds": _UNSTARTED_DELAY})
    return Outcome(job=job, status=Status.TODO, exception=error, retry_decision=decision, error=kept)


def with_details(
    outcome: Outcome,
    task: Task[Any, Any, Any] | None,
    result: RunResult,
    *,
    json_dumps: Callable[[Any], str | bytes],
    store_errors: bool,
) -> Outcome:
    """The outcome with what the run leaves behind: what the task returned, where it stores that, or what was raised.

    A return value that cannot be stored makes a failure of the success, which is not tried again: it would return the
    same.
    """
    if outcome.is_recorded:
        return outcome
    stores = task is not None and task.store_result
    text = None
    if task is not None and task.store_result and outcome.status is Status.SUCCEEDED:
        try:
            text = dump_result(result.value, json_dumps, task_name=task.name, max_size=task.max_result_size)
        except exceptions.InvalidResult as error:
            outcome = Outcome(job=outcome.job, status=Status.FAILED, exception=error)
    if not stores and outcome.exception is None:
        return outcome
    return dataclasses.replace(
        outcome,
        result=text,
        error=describe(outcome.exception) if store_errors and outcome.exception is not None else None,
        announce=stores and outcome.status is not Status.TODO,
    )


def _stopped(exception: BaseException, abort_reason: AbortReason | None) -> bool:
    if isinstance(exception, exceptions.JobAborted):
        return True
    if isinstance(exception, exceptions.TaskTimeout):
        return abort_reason is AbortReason.USER_REQUEST
    return isinstance(exception, asyncio.CancelledError) and abort_reason not in (None, AbortReason.TIMEOUT)


def _retry_decision(task: Task[Any, Any, Any], exception: BaseException, job: Job) -> RetryDecision | None:
    retry = task.get_retry_exception(exception=exception, job=job)
    return read_decision(task.name, getattr(retry, "retry_decision", retry)) if retry else None
