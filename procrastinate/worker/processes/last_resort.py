"""Ends a process that is to end at once, and does not."""

from __future__ import annotations

import os
import queue
import threading

PATIENCE = 5.0
"""Seconds that workers have, after a second stop signal, to write what can be written."""


class LastResort:
    """Repeats a stop signal if the process has not ended in time: a task may block the event loop.

    Its thread waits from the start on. A signal handler could not start one, for it may have interrupted the start of
    another thread, and then waits for a lock that is never free.
    """

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="procrastinate-last-resort", daemon=True).start()

    def arm(self, number: int) -> None:
        """Send this process the signal in :data:`PATIENCE` seconds. Safe to call from a signal handler."""
        self._orders.put(number)

    def cancel(self) -> None:
        """Send nothing."""
        self._orders.put(None)

    def _run(self) -> None:
        number = self._orders.get()
        if number is None:
            return
        try:
            self._orders.get(timeout=PATIENCE)
        except queue.Empty:
            os.kill(os.getpid(), number)
