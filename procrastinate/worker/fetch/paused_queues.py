"""The paused queues that a worker knows of, and those whose jobs may still be parked after their pause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from procrastinate.core import Pauses


class PausedQueues:
    """The paused queues, as the database last named them, without those whose pause has ended by itself since.

    What is known may be older than the last change. A promotion by such knowledge parks jobs of a queue that is open.
    So this object remembers each queue that it has named until the queue's jobs are freed.

    Parameters
    ----------
    clock:
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: dict[str, float | None] = {}
        self._named: set[str] = set()
        self._is_in_doubt = True  # a pause may have ended while no worker was there
        self.changed = asyncio.Event()
        """Set when there may be something new to obey. The service that obeys clears it."""

    def learn(self, pauses: Pauses) -> None:
        """Replace what is known."""
        now = self._clock()
        self._ends = {queue: None if lasts is None else now + lasts for queue, lasts in pauses.items()}
        self._named |= self._ends.keys()

    def note_promotion(self, paused: Iterable[str]) -> None:
        """Note that a promotion has ended that parked the jobs of these queues.

        A pause that has ended during the promotion may have left jobs parked after all others were freed.
        """
        self._named |= set(paused)
        if self.has_ended:
            self.changed.set()

    @property
    def has_ended(self) -> bool:
        """Whether jobs of open queues may be parked."""
        return self._is_in_doubt or bool(self._named - self.names)

    def take_ended(self) -> bool:
        """Return whether jobs of open queues may be parked, and forget it: the caller frees them."""
        has_ended = self.has_ended
        self._named &= self.names
        self._is_in_doubt = False
        return has_ended

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
