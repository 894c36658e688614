"""Detect, from a thread, that a job blocks the event loop: the job computes, or waits without ``await``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future

TURN_EVERY = 0.2
"""Seconds between two counted turns of the loop."""
LOOK_EVERY = 0.25
"""Seconds between two checks of the thread."""
PATIENCE = 5
"""Checks in a row without a turn after which the loop counts as blocked: about a second."""


class LoopWatch:
    """Count turns of the event loop while there are jobs, and call back if there are none for about a second.

    The thread counts its own checks instead of seconds. If the whole process stands still, it makes no checks, so the
    loop does not count as blocked. Without jobs, the loop has no timer and the thread sleeps.
    """

    def __init__(self) -> None:
        self._is_needed: Callable[[], bool] = lambda: False
        self._loop = asyncio.get_running_loop()
        self._turns = 0
        self._timer: asyncio.TimerHandle | None = None
        self._has_jobs = threading.Event()
        self._stopping = threading.Event()
        self._ended: Future[None] = Future()

    def start(self, on_blocked: Callable[[float], None], is_needed: Callable[[], bool]) -> None:
        """Start the thread.

        Parameters
        ----------
        is_needed:
            Called in the event loop. Returns True if jobs run or wait in this worker.
        on_blocked:
            Called in the thread with the approximate seconds for which the loop has been blocked, once after each
            doubling of that time. It must not raise.
        """
        self._is_needed = is_needed
        threading.Thread(target=self._run, args=(on_blocked,), name="procrastinate-loop-watch", daemon=True).start()

    def begin(self) -> None:
        """Watch the loop until no job is left. Called in the event loop at the start of a job."""
        if self._timer is None and not self._stopping.is_set():
            self._turns += 1
            self._timer = self._loop.call_later(TURN_EVERY, self._turn)
            self._has_jobs.set()

    def stop(self) -> None:
        """Stop without waiting for a callback in progress. Called in the event loop."""
        self._stopping.set()
        self._has_jobs.set()  # wakes the thread
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def join(self, max_wait: float) -> None:
        """Wait at most ``max_wait`` seconds for a callback in progress."""
        await asyncio.wait([asyncio.wrap_future(self._ended)], timeout=max_wait)

    def _turn(self) -> None:
        self._turns += 1
        if self._is_needed():
            self._timer = self._loop.call_later(TURN_EVERY, self._turn)
        else:
            self._timer = None
            self._has_jobs.clear()

    def _run(self, on_blocked: Callable[[float], None]) -> None:
        try:
            while self._has_jobs.wait() and not self._stopping.is_set():
                self._watch(on_blocked)
        finally:
            self._ended.set_result(None)

    def _watch(self, on_blocked: Callable[[float], None]) -> None:
        """Check until no job is left."""
        turns, looks, next_call = self._turns, 0, PATIENCE
        while self._has_jobs.is_set() and not self._stopping.wait(LOOK_EVERY):
            if self._turns != turns:
                turns, looks, next_call = self._turns, 0, PATIENCE
                continue
            looks += 1
            if looks >= next_call:
                next_call *= 2
                on_blocked(looks * LOOK_EVERY)
