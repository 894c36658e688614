"""What ``delay()`` returns: the job, as Celery's programs look at it."""

from __future__ import annotations

from typing import Any

from procrastinate._checks.ids import asked_id
from procrastinate._pages import page
from procrastinate.exceptions import NoResult
from procrastinate.from_celery.exceptions import NotSupported, needs_open_app
from procrastinate.from_celery.stored_call import decode
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from procrastinate.results import Result

_STATES = {
    Status.TODO: "PENDING",
    Status.DOING: "STARTED",
    Status.ABORTING: "STARTED",
    Status.SUCCEEDED: "SUCCESS",
    Status.FAILED: "FAILURE",
    Status.CANCELLED: "REVOKED",
    Status.ABORTED: "REVOKED",
}
_NO_LIMIT = 10.0**9
"""Seconds: thirty years."""


class AsyncResult:
    """A job that was deferred.

    Parameters
    ----------
    id:
        The id of the job, as a text.
    """

    def __init__(self, id: str, manager: JobManager) -> None:
        self.id = id
        self._job_id = asked_id(id)  # Celery draws ids that are no numbers, and no job has them
        self._manager = manager

    @property
    def task_id(self) -> str:
        """The id of the job."""
        return self.id

    @property
    def state(self) -> str:
        """``PENDING``, ``STARTED``, ``SUCCESS``, ``FAILURE`` or ``REVOKED``; ``PENDING`` for a job that is gone."""
        try:
            with needs_open_app():
                return _STATES[self._manager.get_job_status(self._job_id)]
        except NoResult:
            return "PENDING"

    @property
    def status(self) -> str:
        """The same as :attr:`state`."""
        return self.state

    def ready(self) -> bool:
        """Return whether the job has ended."""
        return self.state not in ("PENDING", "STARTED")

    def successful(self) -> bool:
        """Return whether the job has succeeded."""
        return self.state == "SUCCESS"

    def failed(self) -> bool:
        """Return whether the job has failed."""
        return self.state == "FAILURE"

    @property
    def result(self) -> Any:
        """What the task has returned. The task is declared with ``ignore_result=False``.

        Raises
        ------
        ResultNotAvailable
            The job has not succeeded, or its task keeps no result.
        NoResult
            There is no such job.
        """
        with needs_open_app():
            return _value(self._manager.get_result(self._job_id))

    def get(self, timeout: float | None = None) -> Any:
        """Wait until the job has ended, and return what the task has returned.

        Parameters
        ----------
        timeout:
            Seconds to wait at most.

        Raises
        ------
        WaitTimeout
            It has not ended in time.
        ResultNotAvailable
            It has failed, or its task keeps no result.
        NoResult
            There is no such job.
        """
        with needs_open_app():
            return _value(self._manager.wait(self._job_id, timeout=_NO_LIMIT if timeout is None else timeout))

    def revoke(self, terminate: bool = False) -> None:
        """Cancel the job if it waits.

        Parameters
        ----------
        terminate:
            Ask a running job to stop, too.
        """
        with needs_open_app():
            self._manager.cancel_job_by_id(self._job_id, abort=terminate)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotSupported(
            f"The stand-in for Celery's AsyncResult has no {name!r}. See {page('from-celery', 'Results')}"
        )

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"


def _value(result: Result) -> Any:
    return decode(result.value)
