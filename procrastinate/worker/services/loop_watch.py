"""Notices, in a thread, that the event loop is blocked: a job computes, or waits without ``await``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future

TURN_EVERY = 0.2
"""Seconds from one turn of the loop that is counted to the next."""
LOOK_EVERY = 0.25
"""Seconds from one look of the thread to the next."""
PATIENCE = 5
"""Looks in a row without a turn after which the loop is blocked: a second, about."""


class LoopWatch:
    """Counts turns of the event loop while jobs are there, and calls once there are none for about a second.

    The thread counts its own looks instead of seconds. If the whole process stands still, it does not look, and the
    loop is not taken for blocked.

    While there are no jobs, the loop has no timer and the thread sleeps.

    Parameters
    ----------
    is_needed:
        Called in the event loop. Returns whether jobs run or wait in this worker.
    """

    def __init__(self, is_needed: Callable[[], bool]) -> None:
        self._is_needed = is_needed
        self._loop = asyncio.get_running_loop()
        self._turns = 0
        self._timer: asyncio.TimerHandle | None = None
        self._has_jobs = threading.Event()
        self._stopping = threading.Event()
        self._ended: Future[None] = Future()

    def start(self, on_blocked: Callable[[float], None]) -> None:
        """Begin.

        Parameters
        ----------
        on_blocked:
            Called in the thread with the seconds for which the loop has been blocked, about. It is called once after
            each doubling of that time. It must not raise.
        """
        threading.Thread(target=self._run, args=(on_blocked,), name="procrastinate-loop-watch", daemon=True).start()

    def begin(self) -> None:
        """Watch the loop from now on, until no job is left. Called in the event loop when a job starts."""
        if self._timer is None and not self._stopping.is_set():
            self._turns += 1
            self._timer = self._loop.call_later(TURN_EVERY, self._turn)
            self._has_jobs.set()

    def stop(self) -> None:
        """End, without waiting for a call under way. Called in the event loop."""
        self._stopping.set()
        self._has_jobs.set()  # the thread may wait for that
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def join(self, max_wait: float) -> None:
        """Wait for a call under way to end, ``max_wait`` seconds at most."""
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
        """Look until no job is left."""
        turns, looks, next_call = self._turns, 0, PATIENCE
        while self._has_jobs.is_set() and not self._stopping.wait(LOOK_EVERY):
            if self._turns != turns:
                turns, looks, next_call = self._turns, 0, PATIENCE
                continue
            looks += 1
            if looks >= next_call:
                next_call *= 2
                on_blocked(looks * LOOK_EVERY)
