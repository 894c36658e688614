"""What a worker does about fetches that fail: how long it waits, and what its log says."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from procrastinate.exceptions import DatabaseUnavailable
from procrastinate.worker.backoff import Backoff

_LONGEST_OUTAGE_PAUSE = 1.5
"""Seconds. So a worker starts jobs soon after an outage, however long that was. A failed connection costs little."""
_TELL_EVERY = 10.0
"""Seconds between two warnings of the same error."""


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
        self._pauses_of_outage = Backoff(longest=_LONGEST_OUTAGE_PAUSE)
        self._told: tuple[str, float] = ("", -_TELL_EVERY)
        """The last warning, and the time of the loop."""

    def note(self, error: BaseException) -> float:
        """Log a failure, and return the seconds to wait before the next attempt."""
        self.last = (error, asyncio.get_running_loop().time())
        pauses = self._pauses_of_outage if isinstance(error, DatabaseUnavailable) else self._pauses
        wait = pauses.next_wait()
        with contextlib.suppress(BaseException):  # a log handler that raises must not end the worker
            self._tell(error, wait)
        return wait

    def end(self) -> None:
        """Wait as briefly as at first when a fetch fails again."""
        self._pauses.reset()
        self._pauses_of_outage.reset()

    def _tell(self, error: BaseException, wait: float) -> None:
        """Warn of an error. An outage may last for hours, so the same error is only a warning now and then."""
        text, now = str(error), asyncio.get_running_loop().time()
        is_told = self._told[0] == text and now - self._told[1] < _TELL_EVERY
        if not is_told:
            self._told = (text, now)
        self._logger.log(
            logging.DEBUG if is_told else logging.WARNING,
            "Jobs cannot be fetched; trying again in %.1f s: %s",
            wait,
            error,
            extra={"action": "fetch_jobs_error"},
            exc_info=self._logger.isEnabledFor(logging.DEBUG),
        )
