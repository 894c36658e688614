"""Wait times between attempts after a database failure."""

from __future__ import annotations

import random

_FIRST = 0.1
_LONGEST = 10.0


class Backoff:
    """Doubling wait times. Each is shortened at random by up to half, so that workers do not retry in step.

    Parameters
    ----------
    first, longest:
        The first and the longest wait, in seconds.
    """

    def __init__(self, first: float = _FIRST, longest: float = _LONGEST) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def next_wait(self) -> float:
        """Return the seconds to wait now."""
        wait = self._next * random.uniform(0.5, 1.0)
        self._next = min(self._next * 2, self._longest)
        return wait

    def reset(self) -> None:
        """Start again from the shortest wait, after a success."""
        self._next = self._first
