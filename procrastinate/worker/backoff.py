"""How long to wait before trying again what the database refused."""

from __future__ import annotations

import random

_FIRST = 0.1
_LONGEST = 10.0


class Backoff:
    """Waits that double, each shortened at random by up to half, so that workers do not come back in step.

    Parameters
    ----------
    first, longest:
        In seconds: the first wait, and the one beyond which they do not grow.
    """

    def __init__(self, first: float = _FIRST, longest: float = _LONGEST) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def next_wait(self) -> float:
        """Seconds to wait now."""
        wait = self._next * random.uniform(0.5, 1.0)
        self._next = min(self._next * 2, self._longest)
        return wait

    def reset(self) -> None:
        """It worked: start from the shortest again."""
        self._next = self._first
