"""End a process that does not end after the second stop signal."""

from __future__ import annotations

import os
import queue
import threading

PATIENCE = 5.0
"""Seconds that workers get after a second stop signal to record their outcomes."""


class LastResort:
    """Repeat a stop signal if the process does not end in time, because a task may block the event loop.

    The thread exists from the start. A signal handler cannot start one: it may interrupt the start of another thread
    and then waits for a lock that is never free.
    """

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="procrastinate-last-resort", daemon=True).start()

    def arm(self, number: int) -> None:
        """Send this process the signal in :data:`PATIENCE` seconds. Safe to call from a signal handler."""
        self._orders.put(number)

    def cancel(self) -> None:
        """Send no signal."""
        self._orders.put(None)

    def _run(self) -> None:
        number = self._orders.get()
        if number is None:
            return
        try:
            self._orders.get(timeout=PATIENCE)
        except queue.Empty:
            os.kill(os.getpid(), number)
