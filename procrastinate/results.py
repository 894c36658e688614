"""The result of a job: its status, what it returned, what went wrong, and when and where it ran."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

from procrastinate import core, exceptions
from procrastinate.core import EventType, JobError
from procrastinate.jobs import Job, Status

__all__ = ["JobError", "Result", "to_result"]

_WAITING = (Status.TODO, Status.DOING, Status.ABORTING)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What is known of a job. Made by ``app.job_manager.get_result(job_id)``, as of that moment.

    Attributes
    ----------
    job:
        The job: its task, arguments, queue, priority and locks.
    status:
        How far it has come.
    attempts:
        How many times it was run, to an end of whatever kind.
    enqueued_at:
        When it was deferred.
    started_at, last_attempted_at:
        When it started to run for the first and for the last time; ``None`` where it has not.
    finished_at:
        When it ended for good; ``None`` where it has not.
    worker_ids:
        The workers that ran it, one an attempt, in order. Of attempts that left no error (with
        ``store_errors=False``, or sent back by hand) only the last one's is known.
    errors:
        The exceptions that ended attempts, in order: class, message and traceback as texts. Empty where the workers ran
        with ``store_errors=False``.
    has_value:
        Whether :attr:`value` has something to give.
    """

    job: Job
    status: Status
    attempts: int
    enqueued_at: datetime.datetime | None
    started_at: datetime.datetime | None
    last_attempted_at: datetime.datetime | None
    finished_at: datetime.datetime | None
    worker_ids: tuple[int, ...]
    errors: tuple[JobError, ...]
    has_value: bool
    _value: Any = dataclasses.field(default=None, repr=False)

    @property
    def job_id(self) -> int:
        """The id of the job."""
        assert self.job.id is not None
        return self.job.id

    @property
    def is_finished(self) -> bool:
        """Whether the job has ended for good, in whatever way."""
        return self.status not in _WAITING

    @property
    def value(self) -> Any:
        """What the task returned, as JSON gives it back.

        Raises
        ------
        ResultNotAvailable
            The job has not succeeded, or its task does not keep what it returns.
        """
        if not self.has_value:
            raise exceptions.ResultNotAvailable(self._why_no_value())
        return self._value

    def _why_no_value(self) -> str:
        job = f"Job {self.job_id} ({self.job.task_name})"
        if not self.is_finished:
            return f"{job} has not ended, it is {self.status.value}: app.job_manager.wait() waits for it"
        if self.status is not Status.SUCCEEDED:
            error = self.errors[-1] if self.errors else None
            reason = f": {error.exception_class}: {error.message}" if error is not None else ""
            return f"{job} has not succeeded, it is {self.status.value}{reason}"
        return f"{job} has succeeded, and its task did not keep what it returned: declare it with store_result=True"


def to_result(stored: core.StoredResult, job: Job, json_loads: Callable[[str], Any]) -> Result:
    """The result, of what is stored and of the job in it."""
    starts = [event.at for event in stored.events if event.type is EventType.STARTED and event.at is not None]
    if stored.job.status is Status.TODO and stored.job.attempts == 0:
        starts = []  # a worker has fetched it ahead, and given it back
    deferred = (event.at for event in stored.events if event.type is EventType.DEFERRED)
    has_value = stored.value is not None and stored.job.status is Status.SUCCEEDED
    return Result(
        job=job,
        status=stored.job.status,
        attempts=stored.job.attempts,
        enqueued_at=next(deferred, None),
        started_at=starts[0] if starts else None,
        last_attempted_at=starts[-1] if starts else None,
        finished_at=stored.finished_at,
        worker_ids=_worker_ids(stored),
        errors=stored.errors,
        has_value=has_value,
        _value=json_loads(stored.value) if has_value and stored.value is not None else None,
    )


def _worker_ids(stored: core.StoredResult) -> tuple[int, ...]:
    job = stored.job
    by_attempt = {error.attempt: error.worker_id for error in stored.errors}
    if job.worker_id is not None:
        running = job.status in (Status.DOING, Status.ABORTING)
        by_attempt[job.attempts + 1 if running else job.attempts] = job.worker_id
    return tuple(worker for _, worker in sorted(by_attempt.items()) if worker is not None)
