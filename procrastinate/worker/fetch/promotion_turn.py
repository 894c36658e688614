"""Whether to wait for the turn of promotions, or to promote without it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

from procrastinate.core import Promotion

PATIENCE = 2.0
"""Seconds for which a due job may stay the first while another session has the turn. A promotion takes milliseconds."""


class Turn:
    """Promotions take turns by a lock that any session can hold. A worker does not wait for it without end.

    A session that has the turn and promotes is given time: the due jobs that it decides on are not the first for long.
    One that has it and promotes nothing is ignored. Promotions without the turn are as right, and slower where many
    workers make them at once.

    Parameters
    ----------
    clock:
        In seconds.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._first_due: int | None = None
        self._since = 0.0
        self.is_ignored = False

    def note(self, promotion: Promotion) -> None:
        """Learn from a promotion that was made, or was left to the session that has the turn."""
        if promotion.had_turn:
            self._first_due, self.is_ignored = None, False
        elif promotion.first_due is None or promotion.first_due != self._first_due:
            self._first_due, self._since = promotion.first_due, self._clock()
        elif not self.is_ignored and self._clock() - self._since >= PATIENCE:
            self.is_ignored = True
            self._warn()

    def _warn(self) -> None:
        with contextlib.suppress(BaseException):  # a log handler that raises must not end the worker
            self._logger.warning(
                "Job %s has been due for %.0f s, and another session holds the advisory lock of promotions without "
                "promoting it: look for it in pg_locks. This worker goes on without the lock",
                self._first_due,
                self._clock() - self._since,
                extra={"action": "promotion_turn_ignored", "job_id": self._first_due},
            )
