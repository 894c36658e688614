"""SIGINT and SIGTERM stop all workers of a process: the first one gracefully, the second at once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Protocol

from procrastinate._text.logs import get_logger
from procrastinate.worker.processes.last_resort import LastResort

logger = get_logger("procrastinate.signals")  # the name of 3.x

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAME = 0.5
"""Seconds within which a signal that comes again counts once. GNU ``timeout`` and wrappers that forward to the process
group send each signal twice.
"""
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
_LOOP_MODULES = ("asyncio", "uvloop")


class Stoppable(Protocol):
    """A worker, as a signal handler sees it. Both methods must be safe to call from there, and return at once."""

    def stop_at_signal(self) -> None:
        """Stop gracefully."""
        ...

    def end_at_signal(self, *, cancel: bool) -> None:
        """End at once.

        Parameters
        ----------
        cancel:
            False if the program cancels the worker by itself, as :class:`asyncio.Runner` does.
        """
        ...


class SignalCount:
    """Counts stop signals. One that comes again within half a second counts once.

    Parameters
    ----------
    clock:
        Returns seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._last: int | None = None
        self._counted_at = 0.0

    def add(self, number: int) -> int:
        """Return how many signals have come with this one, or 0 if it repeats the last one."""
        is_near = self._count > 0 and self._clock() - self._counted_at < _SAME
        if is_near and self._last in (number, None):
            return 0
        self._last = number
        return self._add()

    def note_stop(self) -> None:
        """Count a stop that another process has asked for in other words. A signal that comes with it repeats it."""
        if self._count == 0:
            self._add()

    @property
    def is_zero(self) -> bool:
        """Whether none has come."""
        return self._count == 0

    def _add(self) -> int:
        self._counted_at = self._clock()
        self._count += 1
        return self._count


class _Handlers:
    """The signal handlers that the workers of a process share: each with its own, the first signal would reach only the
    worker that came last.
    """

    def __init__(self) -> None:
        self.workers: list[Stoppable] = []
        self.count = SignalCount()
        self._ends_by: int | None = None
        self._previous = {number: signal.getsignal(number) for number in _SIGNALS}
        self._last_resort = LastResort()
        for number in _SIGNALS:
            signal.signal(number, self._handle)

    @property
    def are_installed(self) -> bool:
        """Whether signals come here: the program has put no handlers over these."""
        return all(signal.getsignal(number) == self._handle for number in _SIGNALS)

    def former(self, number: int) -> Any:
        """Return the handler that was there before these, or those of an earlier worker."""
        handler = self._previous[signal.Signals(number)]
        earlier = getattr(handler, "__self__", None)
        return earlier.former(number) if isinstance(earlier, _Handlers) else handler

    def remove(self) -> None:
        """Put back what was there before. The process then ends if a second signal has come."""
        self._last_resort.cancel()
        self._restore()
        if self._ends_by is not None:
            _do_without_worker(self._ends_by)

    def _restore(self) -> None:
        for number in _SIGNALS:
            if signal.getsignal(number) == self._handle:
                signal.signal(number, self._still_used(number))

    def _still_used(self, number: signal.Signals) -> Any:
        """Return the handler to put back: that of an earlier worker if it still runs."""
        handler = self._previous[number]
        earlier = getattr(handler, "__self__", None)
        is_over = isinstance(earlier, _Handlers) and not earlier.workers
        return self.former(number) if is_over else handler

    def _handle(self, number: int, frame: FrameType | None) -> None:
        count = self.count.add(number)
        if count == 1:
            for worker in list(self.workers):
                worker.stop_at_signal()
        elif count == 2:
            self._end(number, frame)
        elif count > 2:
            self._restore()
            _do_without_worker(number)

    def _end(self, number: int, frame: FrameType | None) -> None:
        former = self.former(number)
        if _is_sole_purpose and is_of_a_loop(former):
            former = signal.SIG_DFL
        if former in _DEFAULTS:
            self._ends_by = number
        if former in _DEFAULTS or is_of_a_loop(former):
            self._last_resort.arm(number)
            for worker in list(self.workers):
                worker.end_at_signal(cancel=former in _DEFAULTS)
        if callable(former) and former not in _DEFAULTS:
            former(number, frame)


_current: list[_Handlers] = []
"""The latest of them, if there are any."""

_is_sole_purpose = False


@contextlib.contextmanager
def sole_purpose() -> Iterator[None]:
    """Let a second signal end the process itself in this block, for it runs nothing else than a worker.

    Otherwise SIGINT raises KeyboardInterrupt, which the program may handle. The exit of Python then waits for the
    threads of :func:`asyncio.to_thread`, however long these take.
    """
    global _is_sole_purpose
    before, _is_sole_purpose = _is_sole_purpose, True
    try:
        yield
    finally:
        _is_sole_purpose = before


def _installed() -> _Handlers:
    if not (_current and _current[0].are_installed and _current[0].count.is_zero):
        _current[:] = [_Handlers()]
    return _current[0]


def are_handled() -> bool:
    """Return whether the next stop signal comes to the workers of this process, and none has come yet."""
    return bool(_current) and bool(_current[0].workers) and _current[0].are_installed and _current[0].count.is_zero


def second_ends() -> bool:
    """Return whether a second stop signal ends the workers of this process, whichever of the two it is.

    A handler that the program has set may do something else.
    """
    if not (_current and _current[0].are_installed):
        return False
    return all(former in _DEFAULTS or is_of_a_loop(former) for former in map(_current[0].former, _SIGNALS))


def note_stop() -> None:
    """Count a stop that the supervisor of this process has asked for as the first signal."""
    if _current:
        _current[0].count.note_stop()


def former_handler(number: int) -> Any:
    """Return the handler of a stop signal as it is without those of the workers."""
    handler = signal.getsignal(number)
    owner = getattr(handler, "__self__", None)
    return owner.former(number) if isinstance(owner, _Handlers) else handler


def forget() -> None:
    """Handle no stop signals for the workers of this process: it is a fork of theirs."""
    _current.clear()


def is_of_a_loop(handler: Any) -> bool:
    """Return whether asyncio or uvloop has set this signal handler, which acts on an event loop."""
    if isinstance(handler, functools.partial):
        handler = handler.func
    if isinstance(getattr(handler, "__self__", None), asyncio.Runner):
        return True
    module = getattr(handler, "__module__", None) or ""
    return module.split(".")[0] in _LOOP_MODULES


@contextlib.contextmanager
def handled(worker: Stoppable) -> Iterator[None]:
    """Let stop signals stop the worker in this block.

    The first one stops it gracefully. The second ends it at once. If that signal ends a process by default, it does so
    at the end of the block. A third one does at once what it would do without the worker.

    A handler of the program's own is called at the second signal instead, and decides.
    """
    if threading.current_thread() is not threading.main_thread():
        logger.debug(
            "Signals reach the main thread only: no handlers installed", extra={"action": "skip_signal_handlers"}
        )
        yield
        return
    logger.debug("Installing signal handlers", extra={"action": "install_signal_handlers"})
    handlers = _installed()
    handlers.workers.append(worker)
    try:
        yield
    finally:
        logger.debug("Restoring signal handlers", extra={"action": "uninstall_signal_handlers"})
        if worker in handlers.workers:  # not in a process that a job has forked
            handlers.workers.remove(worker)
        if not handlers.workers:
            handlers.remove()


def _do_without_worker(number: int) -> None:
    """Let a signal do what it does without the worker. What was printed is written first, for it may end the process.

    Where the worker is all that the process is for, it does.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    if _is_sole_purpose:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
