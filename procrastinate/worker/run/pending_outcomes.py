"""Outcomes that wait to be written."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable

from procrastinate.worker.run.outcome import Outcome

_LARGEST_BATCH = 1000
_LARGE_BATCH = 50
_GATHERING = 0.002
"""Seconds that outcomes wait for others, while many come."""
_FAST_BATCH, _FAST_PACE = 3, 0.005
"""Many come if a write had this number of outcomes, and the next one follows within this number of seconds."""


class PendingOutcomes:
    """The outcomes that wait to be written, and the decision how long they wait for others.

    The event loop adds outcomes. The loop and another thread take them.
    """

    def __init__(self) -> None:
        self._outcomes: deque[Outcome] = deque()
        self._arrived = asyncio.Event()
        self._fast_until = 0.0

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Add outcomes."""
        self._outcomes.extend(outcomes)
        self._arrived.set()

    def __bool__(self) -> bool:
        return bool(self._outcomes)

    async def arrive(self) -> None:
        """Wait until there is an outcome to take."""
        await self._arrived.wait()
        self._arrived.clear()

    async def gather(self) -> None:
        """Wait a moment for more outcomes if the last ones came fast.

        A statement for ten outcomes costs nearly what a statement for fifty costs. The writer does not wait if another
        job waits for one of the outcomes. Such an outcome that comes during the wait is written up to 2 ms later.
        """
        is_fast = asyncio.get_running_loop().time() < self._fast_until
        if is_fast and len(self._outcomes) < _LARGE_BATCH and not any(map(_is_awaited, list(self._outcomes))):
            await asyncio.sleep(_GATHERING)

    def take(self) -> list[Outcome]:
        """Take a batch. Callable from any thread."""
        batch: list[Outcome] = []
        with contextlib.suppress(IndexError):  # the other thread may take the last one
            while len(batch) < _LARGEST_BATCH:
                batch.append(self._outcomes.popleft())
        return batch

    def note_written(self, number: int) -> None:
        """Note that a batch of that many outcomes is written."""
        self._fast_until = asyncio.get_running_loop().time() + _FAST_PACE if number >= _FAST_BATCH else 0.0


def _is_awaited(outcome: Outcome) -> bool:
    return outcome.hands_over or outcome.ends_step
