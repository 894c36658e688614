"""What a worker does about fetches that fail: how long it waits, and what its log says."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from procrastinate.worker.backoff import Backoff, Repeats


class FetchFailures:
    """The last failures in a row.

    Attributes
    ----------
    last:
        The last error, and the time of the loop.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self.last: tuple[BaseException, float] | None = None
        self._logger = logger
        self._pauses = Backoff()
        self._repeats = Repeats()

    def note(self, error: BaseException) -> float:
        """Log a failure, and return the seconds to wait before the next attempt."""
        self.last = (error, asyncio.get_running_loop().time())
        wait = self._pauses.wait_after(error)
        with contextlib.suppress(BaseException):  # a log handler that raises must not end the worker
            self._tell(error, wait)
        return wait

    def end(self) -> None:
        """Wait as briefly as at first when a fetch fails again."""
        self._pauses.reset()

    def _tell(self, error: BaseException, wait: float) -> None:
        """Warn of an error. An outage may last for hours, so the same error is only a warning now and then."""
        self._logger.log(
            self._repeats.level(error, asyncio.get_running_loop().time()),
            "Jobs cannot be fetched; trying again in %.1f s: %s",
            wait,
            error,
            extra={"action": "fetch_jobs_error"},
            exc_info=self._logger.isEnabledFor(logging.DEBUG),
        )
