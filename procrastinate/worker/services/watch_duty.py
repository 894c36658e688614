"""Whether this worker looks after the others, which a few of a fleet do."""

from __future__ import annotations

import asyncio
import random

REST = 10
"""Intervals after which a worker looks that is no watcher. Watchers may lack a right, or their looks may fail."""


class WatchDuty:
    """Says when this worker looks after the others next.

    A worker has the duty until a heartbeat says that enough others have it, and at once when a heartbeat says that
    they no longer do.

    Parameters
    ----------
    interval:
        Seconds between two heartbeats.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._has_begun = asyncio.Event()
        self._has_begun.set()

    def learn(self, *, is_watcher: bool) -> None:
        """Take the answer of a heartbeat."""
        if is_watcher:
            self._has_begun.set()
        else:
            self._has_begun.clear()

    @property
    def is_on(self) -> bool:
        """Whether this worker looks after the others now."""
        return self._has_begun.is_set()

    async def until_next_look(self, pause: float | None = None) -> None:
        """Wait for an interval, and then until this worker is a watcher, or for the tenth interval.

        Parameters
        ----------
        pause:
            Seconds to wait in place of the interval. If they are fewer, this is one of several looks, which go on.
        """
        if pause is None:
            pause = self._interval
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))
        if pause < self._interval:
            return
        try:
            async with asyncio.timeout(self._interval * (REST - 1)):
                await self._has_begun.wait()
        except TimeoutError:
            return
