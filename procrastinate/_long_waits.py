"""Log what a long wait is for, after a few seconds and then at growing intervals."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator

FIRST_WORD = 3.0
"""Seconds until the first log record of a wait."""
LONGEST_SILENCE = 600.0
"""Most seconds between two log records of one wait."""

_SHORTEST_PAUSE = 0.01


class Silence:
    """Decides when a wait is logged again. Each interval is as long as the wait before it.

    Parameters
    ----------
    first:
        Seconds until the first log record.
    """

    def __init__(self, first: float = FIRST_WORD) -> None:
        self.until = first
        """Seconds from the start of the wait to the next log record."""

    def is_over(self, waited: float) -> bool:
        """Return True if a log record is due after this many seconds, and start the next interval."""
        if waited < self.until:
            return False
        self.until = min(waited * 2, waited + LONGEST_SILENCE)
        return True


@contextlib.contextmanager
def told(tell: Callable[[float], object], first: float = FIRST_WORD) -> Iterator[None]:
    """Call ``tell`` at growing intervals while the block lasts. For a block that awaits.

    Parameters
    ----------
    tell:
        Called in the event loop with the seconds that the wait has lasted. Its exceptions are dropped, because a
        failing log handler must not end a wait.
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
    """Do the same as :func:`told`, from a thread. For a block that blocks."""
    silence, start, is_over = Silence(first), time.monotonic(), threading.Event()

    def watch() -> None:
        while not is_over.wait(max(start + silence.until - time.monotonic(), _SHORTEST_PAUSE)):
            waited = time.monotonic() - start
            if silence.is_over(waited):
                with contextlib.suppress(BaseException):
                    tell(waited)

    with contextlib.suppress(RuntimeError):  # the system refuses a thread: the wait goes on untold
        threading.Thread(target=watch, name="procrastinate-long-wait", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
