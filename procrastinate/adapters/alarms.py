"""Calls functions later, all from one thread.

A ``threading.Timer`` is a thread for each. To start one, the heart of a worker would wait for the GIL once more at each
beat, beside a task that keeps it for a while: three to four turns, instead of two to three.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable


@dataclasses.dataclass(order=True)
class Alarm:
    """A function that is called when its time has come, unless it was cancelled."""

    due: float
    place: int
    function: Callable[[], None] | None = dataclasses.field(compare=False)

    def cancel(self) -> None:
        """Do not call it, after all. (Where it is being called just now, it is.)"""
        self.function = None


class Alarms:
    """The alarms of a process, and their thread, which starts with the first and stays."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._alarms: list[Alarm] = []
        self._places = itertools.count()
        self._thread: threading.Thread | None = None

    def call_later(self, seconds: float, function: Callable[[], None]) -> Alarm:
        """Call a function after so many seconds. It must be short: all others wait for it."""
        alarm = Alarm(time.monotonic() + seconds, next(self._places), function)
        with self._changed:
            heapq.heappush(self._alarms, alarm)
            if self._alarms[0] is alarm:
                self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="alarms of procrastinate", daemon=True)
                self._thread.start()
        return alarm

    def _run(self) -> None:
        while True:
            function = self._wait().function
            if function is not None:
                function()

    def _wait(self) -> Alarm:
        """The next whose time has come, cancelled or not: those go when it would have."""
        with self._changed:
            while True:
                rest = self._alarms[0].due - time.monotonic() if self._alarms else None
                if rest is not None and rest <= 0:
                    return heapq.heappop(self._alarms)
                self._changed.wait(rest)


_alarms = Alarms()


def call_later(seconds: float, function: Callable[[], None]) -> Alarm:
    """As :meth:`Alarms.call_later`, by the alarms of this process."""
    return _alarms.call_later(seconds, function)


def _begin_anew() -> None:
    """The thread is not there in a forked process, and may have held the lock when it was forked."""
    global _alarms
    _alarms = Alarms()


os.register_at_fork(after_in_child=_begin_anew)
