"""The paused queues that a worker knows of."""

from __future__ import annotations

import time
from collections.abc import Callable

from procrastinate.core import Pauses


class PausedQueues:
    """The paused queues, as the database last named them, without those whose pause has ended by itself since.

    Parameters
    ----------
    clock:
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: dict[str, float | None] = {}

    def learn(self, pauses: Pauses) -> None:
        """Replace what is known."""
        now = self._clock()
        self._ends = {queue: None if lasts is None else now + lasts for queue, lasts in pauses.items()}

    @property
    def names(self) -> frozenset[str]:
        """The queues that are paused now. Callable from any thread."""
        ends = self._ends
        if not ends:
            return frozenset()
        now = self._clock()
        return frozenset(queue for queue, end in ends.items() if end is None or end > now)

    @property
    def next_end_in(self) -> float | None:
        """Seconds until the next pause ends by itself, or ``None``."""
        now = self._clock()
        return min((end - now for end in self._ends.values() if end is not None and end > now), default=None)
