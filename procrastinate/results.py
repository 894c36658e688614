"""The result of a job: status, return value, errors, times and workers."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

from procrastinate import core, exceptions
from procrastinate._job import Job
from procrastinate.core import EventType, JobError, JobProgress, JobStack, KeptLog, LogLine
from procrastinate.core.enums import Status

__all__ = ["JobError", "JobProgress", "JobStack", "KeptLog", "LogLine", "Result", "to_result"]

_WAITING = (Status.TODO, Status.DOING, Status.ABORTING)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """State of a job when ``app.job_manager.get_result(job_id)`` was called.

    Attributes
    ----------
    job:
        The job, with its task, arguments, queue, priority and locks.
    status:
        The status of the job.
    attempts:
        Number of finished runs, with any outcome.
    enqueued_at:
        Time of the defer, as an aware datetime.
    started_at, last_attempted_at:
        Start of the first and of the last run, or ``None`` before the first run.
    finished_at:
        Time when the job finished, or ``None`` before that. A job that waits for a retry has not finished.
    worker_ids:
        Ids of the workers, one for each attempt, in order. Attempts without a stored error are missing, except the
        last one. An error is not stored with ``store_errors=False``, or if a user put the job back into the queue.
    errors:
        The exceptions that ended attempts, in order, with class, message and traceback as strings. The tuple is empty
        if the workers ran with ``store_errors=False``.
    has_value:
        True if :attr:`value` returns a value and does not raise.
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
    _fault: str | None = dataclasses.field(default=None, repr=False)
    """Why the stored value cannot be read."""

    @property
    def job_id(self) -> int:
        """The id of the job."""
        assert self.job.id is not None
        return self.job.id

    @property
    def is_finished(self) -> bool:
        """True if the job has finished, with any status, and will not run again."""
        return self.status not in _WAITING

    @property
    def value(self) -> Any:
        """The return value of the task, decoded from JSON.

        Raises
        ------
        ResultNotAvailable
            The job has not succeeded, its task has ``store_result=False``, or what is stored cannot be read.
        """
        if not self.has_value:
            raise exceptions.ResultNotAvailable(self._why_no_value())
        return self._value

    def _why_no_value(self) -> str:
        job = f"Job {self.job_id} ({self.job.task_name})"
        if not self.is_finished:
            return f"{job} has not finished, it is {self.status.value}: app.job_manager.wait() waits for it"
        if self.status is not Status.SUCCEEDED:
            error = self.errors[-1] if self.errors else None
            reason = f": {error.exception_class}: {error.message}" if error is not None else ""
            return f"{job} has not succeeded, it is {self.status.value}{reason}"
        if self._fault is not None:
            return f"{job} has succeeded, but its return value cannot be read: {self._fault}"
        return f"{job} has succeeded, but its return value was not stored: declare the task with store_result=True"


def to_result(stored: core.StoredResult, job: Job, json_loads: Callable[[str], Any]) -> Result:
    """Return the result for the stored data and the job made from it."""
    starts = [event.at for event in stored.events if event.type is EventType.STARTED and event.at is not None]
    if stored.job.status is Status.TODO and stored.job.attempts == 0:
        starts = []  # a worker prefetched the job and released it before a run
    deferred = (event.at for event in stored.events if event.type is EventType.DEFERRED)
    text = stored.value if stored.job.status is Status.SUCCEEDED else None
    value, fault = (None, None) if text is None else read_result(text, json_loads)
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
        has_value=text is not None and fault is None,
        _value=value,
        _fault=fault,
    )


def read_result(text: str, json_loads: Callable[[str], Any]) -> tuple[Any, str | None]:
    """Return a stored value, and why it cannot be read. Any client can write the table."""
    if text == core.UNREADABLE:
        return None, "a number in it has thousands of digits"
    try:
        return json_loads(text), None
    except BaseException as error:  # the function may be the program's
        return None, f"{type(error).__name__}: {error}"


def _worker_ids(stored: core.StoredResult) -> tuple[int, ...]:
    job = stored.job
    by_attempt = {error.attempt: error.worker_id for error in stored.errors}
    if job.worker_id is not None:
        running = job.status in (Status.DOING, Status.ABORTING)
        by_attempt[job.attempts + 1 if running else job.attempts] = job.worker_id
    return tuple(worker for _, worker in sorted(by_attempt.items()) if worker is not None)
