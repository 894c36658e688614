"""Timers that share one thread.

Each ``threading.Timer`` starts a thread. A worker's heartbeat would then wait for the GIL once more per beat while a
task holds it: three to four turns instead of two to three.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable

from procrastinate._text.logs import get_logger

logger = get_logger(__name__)


@dataclasses.dataclass(order=True)
class Alarm:
    """A function that is called at its due time, unless it is cancelled."""

    due: float
    place: int
    function: Callable[[], None] | None = dataclasses.field(compare=False)

    def cancel(self) -> None:
        """Cancel the call. A call that has already started continues."""
        self.function = None


class Alarms:
    """The timers of a process. Their thread starts with the first timer and does not end."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._alarms: list[Alarm] = []
        self._places = itertools.count()
        self._thread: threading.Thread | None = None

    def call_later(self, seconds: float, function: Callable[[], None]) -> Alarm:
        """Call a function after a number of seconds. It must be short, because all other timers wait for it."""
        alarm = Alarm(time.monotonic() + seconds, next(self._places), function)
        with self._changed:
            heapq.heappush(self._alarms, alarm)
            if self._alarms[0] is alarm:
                self._changed.notify()
            if self._thread is None:
                self._start_thread()
        return alarm

    def _start_thread(self) -> None:
        """Start the thread. If the system refuses one, the next timer tries again, and the alarms wait for it."""
        thread = threading.Thread(target=self._run, name="alarms of procrastinate", daemon=True)
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while True:
            function = self._wait().function
            if function is not None:
                _call(function)

    def _wait(self) -> Alarm:
        """Wait for the next due alarm and remove it. A cancelled alarm stays until its due time."""
        with self._changed:
            while True:
                rest = self._alarms[0].due - time.monotonic() if self._alarms else None
                if rest is not None and rest <= 0:
                    return heapq.heappop(self._alarms)
                self._changed.wait(rest)


def _call(function: Callable[[], None]) -> None:
    """Call a function. An error must not end the thread, on which all later timers depend."""
    try:
        function()
    except BaseException as error:
        with contextlib.suppress(BaseException):  # a failing log handler
            logger.error("A timer has failed: %r", error, exc_info=error, extra={"action": "timer_failed"})


_alarms = Alarms()


def call_later(seconds: float, function: Callable[[], None]) -> Alarm:
    """Call a function later, as :meth:`Alarms.call_later`, with the timers of this process."""
    return _alarms.call_later(seconds, function)


def _begin_again() -> None:
    """Replace the timers in a forked process. It has no timer thread, and the lock may have been held at the fork."""
    global _alarms
    _alarms = Alarms()


os.register_at_fork(after_in_child=_begin_again)
