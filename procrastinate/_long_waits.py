"""A wait that lasts says what it is for: after a few seconds, and then at growing intervals."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator

FIRST_WORD = 3.0
"""Seconds that a wait is silent at first."""
LONGEST_SILENCE = 600.0
"""Seconds between two words of one wait, at most."""

_SHORTEST_PAUSE = 0.01


class Silence:
    """Decides when a wait speaks. Each silence is as long as all that came before it.

    Parameters
    ----------
    first:
        Seconds until the first word.
    """

    def __init__(self, first: float = FIRST_WORD) -> None:
        self.until = first
        """Seconds since the begin of the wait until the next word."""

    def is_over(self, waited: float) -> bool:
        """Return whether to speak now, after these seconds of waiting. Then the next silence begins."""
        if waited < self.until:
            return False
        self.until = min(waited * 2, waited + LONGEST_SILENCE)
        return True


@contextlib.contextmanager
def told(tell: Callable[[float], object], first: float = FIRST_WORD) -> Iterator[None]:
    """Say what the block waits for, as long as it lasts. For a block that awaits.

    Parameters
    ----------
    tell:
        Called in the event loop with the seconds that the wait has lasted. What it raises is dropped, for a log handler
        must not end a wait.
    first:
        Seconds until the first call.
    """
    loop = asyncio.get_running_loop()
    silence, start = Silence(first), loop.time()
    timer = loop.call_later(first, lambda: look())

    def look() -> None:
        nonlocal timer
        waited = loop.time() - start
        if silence.is_over(waited):
            with contextlib.suppress(BaseException):
                tell(waited)
        timer = loop.call_later(max(silence.until - waited, _SHORTEST_PAUSE), look)

    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def told_by_thread(tell: Callable[[float], object], first: float = FIRST_WORD) -> Iterator[None]:
    """Do as :func:`told`, from a thread, for a block that blocks."""
    silence, start, is_over = Silence(first), time.monotonic(), threading.Event()

    def watch() -> None:
        while not is_over.wait(max(start + silence.until - time.monotonic(), _SHORTEST_PAUSE)):
            waited = time.monotonic() - start
            if silence.is_over(waited):
                with contextlib.suppress(BaseException):
                    tell(waited)

    threading.Thread(target=watch, name="procrastinate-long-wait", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
