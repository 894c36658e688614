"""Log what happens in the run of a job."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from procrastinate._quoting import Cut
from procrastinate._text.terminal import say_lines
from procrastinate._text.tracebacks import without_machinery
from procrastinate.job_context import AbortReason, JobResult
from procrastinate.jobs import Job, Status
from procrastinate.worker.run.outcome import Outcome

if TYPE_CHECKING:
    from procrastinate.worker.worker import Worker

_LONGEST_RESULT = 250
"""Maximum length of a task's return value in the log, in characters."""
_OUTCOME_LOGS: dict[tuple[Status, bool], tuple[int, str, str]] = {
    (Status.SUCCEEDED, False): (logging.INFO, "job_success", "ended with status: Success"),
    (Status.FAILED, False): (logging.ERROR, "job_error", "ended with status: Error"),
    (Status.ABORTED, False): (logging.INFO, "job_aborted", "ended with status: Aborted"),
    (Status.CANCELLED, False): (logging.INFO, "job_cancelled", "did not start, because its workflow was cancelled"),
    (Status.TODO, True): (logging.INFO, "job_error_retry", "ended with status: Error, to retry"),
}

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]


class RunLog:
    """The log of one run.

    Parameters
    ----------
    worker:
        Has the logger, and the fields that each record has of the worker.
    result:
        The times and the return value of the run, as far as they are known. The run changes it.
    """

    def __init__(self, worker: Worker, result: JobResult) -> None:
        self._worker = worker
        self._logger = worker.logger
        self._result = result

    def write(
        self, job: Job, level: int, action: str, message: str, *arguments: Any, exc_info: ExcInfo | None = None
    ) -> None:
        """Log a message whose first argument is the job's call. The caller has checked that the level is on."""
        extra = {"action": action, "worker": self._worker.log_context(), "job": job.log_context()}
        extra |= self._result.as_dict()
        if not job.log_arguments:
            extra.pop("result", None)
        try:
            self._logger.log(level, message, job.call_string, *arguments, extra=extra, exc_info=exc_info)
        except BaseException:
            # A failing log handler, or a result whose __str__ exits, must not change the job's outcome.
            say_lines(traceback.format_exc(), sys.stderr)

    def write_outcome(self, job: Job, outcome: Outcome, abort_reason: AbortReason | None) -> None:
        """Log the outcome, how long the run lasted, and what the task returned or raised."""
        level, action, words = _OUTCOME_LOGS[outcome.status, outcome.retry_decision is not None]
        if outcome.status is Status.TODO and abort_reason is AbortReason.SHUTDOWN:
            action, words = "job_aborted_retry", "was aborted and will be retried"
        if not self._logger.isEnabledFor(level):
            return
        duration = self._result.duration(time.time()) or 0.0
        message = f"Job %s {words} (lasted %.3f s)"
        arguments: list[Any] = [duration]
        if outcome.status is Status.SUCCEEDED and self._result.result is not None and job.log_arguments:
            message += " - Result: %s"
            arguments.append(Cut(self._result.result, _LONGEST_RESULT))
        error = exc_info_of(outcome.exception) if level >= logging.INFO else None
        self.write(job, level, action, message, *arguments, exc_info=error)


def log_job(worker: Worker, action: str, message: str, job: Job) -> None:
    """Log a message whose only argument is the job's call, outside of the job's run."""
    if worker.logger.isEnabledFor(logging.INFO):
        extra = {"action": action, "worker": worker.log_context(), "job": job.log_context()}
        with contextlib.suppress(BaseException):  # a failing log handler must not change the job's outcome
            worker.logger.info(message, job.call_string, extra=extra)


def exc_info_of(exception: BaseException | None) -> ExcInfo | None:
    """Return exc_info for a log record, without the queue's own traceback frames, which every task shares."""
    if exception is None:
        return None
    return type(exception), exception, without_machinery(exception.__traceback__)
