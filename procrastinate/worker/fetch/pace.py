"""Limit how often notifications make a worker query the table.

Any role that can log in may send ten thousand notifications a second. A worker that queried the table for each of them
would do nothing else.
"""

from __future__ import annotations

import math

BURST = 20
"""Looks in vain that follow a notification at once."""
PER_SECOND = 20
"""Further looks in vain."""


class Pace:
    """Grants looks. A look that finds something costs nothing, so a busy queue is never slowed down."""

    def __init__(self) -> None:
        self._looks = float(BURST)
        self._as_of = -math.inf

    def wait(self, now: float) -> float:
        """Take a look, and return the seconds until it may begin.

        Parameters
        ----------
        now:
            The time in seconds, by the clock of the event loop.
        """
        earned = 0.0 if self._as_of == -math.inf else (now - self._as_of) * PER_SECOND
        self._looks = min(float(BURST), self._looks + earned) - 1
        self._as_of = now
        return max(0.0, -self._looks / PER_SECOND)

    def found(self) -> None:
        """Take note that the looks were not in vain."""
        self._looks = float(BURST)
