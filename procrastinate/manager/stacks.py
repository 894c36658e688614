"""Wait for the stack of a running job."""

from __future__ import annotations

import time

from procrastinate import exceptions
from procrastinate._checks.amounts import read_seconds
from procrastinate._durations import setting
from procrastinate.core import JobStack, StackRequest

STACK_TIMEOUT = 5.0
"""Seconds that a worker has for its answer."""
PAUSE = 0.1
"""Seconds between two looks for the answer."""


class StackWait:
    """State of one wait for the stack of a job.

    Parameters
    ----------
    request:
        ``None`` if the job does not exist.
    timeout:
        Maximum wait in seconds.

    Raises
    ------
    NoStack
        The job does not run.
    """

    def __init__(self, job_id: int, request: StackRequest | None, timeout: float) -> None:
        if request is None:
            raise exceptions.NoStack(f"There is no job {job_id}: it was deleted, or it is not committed yet")
        if not request:
            raise exceptions.NoStack(
                f"Job {job_id} does not run, so it has no stack: its status is {request.status.value}"
            )
        self._job_id = job_id
        self._request = request
        self._timeout = timeout
        self._end = time.monotonic() + timeout

    def examine(self, stack: JobStack | None) -> JobStack | None:
        """Return the stack if it is the answer, or the last one if time is up. ``None`` if the wait goes on.

        Raises
        ------
        NoStack
            Time is up, and the run has left no stack.
        """
        mine = stack if stack is not None and stack.attempt == self._request.attempt else None
        if mine is not None and mine.at >= self._request.at:
            return mine
        if time.monotonic() < self._end:
            return None
        if mine is None:
            raise exceptions.NoStack(self._why())
        return mine

    def _why(self) -> str:
        said = f"The worker of job {self._job_id} has not told the stack within {setting(self._timeout)}"
        if self._request.listens is False:
            return f"{said}: it does not listen for notifications"
        return (
            f"{said}: the job may have ended or not have begun, the event loop of the worker may be blocked, its "
            "connection that listens may be broken, or it is of an older release"
        )


def read_timeout(timeout: float) -> float:
    """Return the timeout of a wait in seconds, or raise ``TypeError`` or ``ValueError``."""
    return read_seconds("timeout", timeout)
