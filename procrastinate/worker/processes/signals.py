"""Stop all workers of a process at SIGINT and SIGTERM: gracefully at the first signal, at once at the second."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
import threading
import time

# signal.getsignal makes an enum of the answer: 1.1 µs and not 0.04 µs, and each async job asks four times.
from _signal import getsignal  # type: ignore[import-not-found]
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Protocol

from procrastinate._text.logs import get_logger
from procrastinate.worker.processes.last_resort import LastResort

logger = get_logger("procrastinate.signals")  # the name of 3.x

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAME = 0.5
"""Seconds within which a repeated signal counts once.

GNU ``timeout`` and wrappers that forward to the process group send each signal twice.
"""
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
_LOOP_MODULES = ("asyncio", "uvloop")
_INIT = 1
"""Process id of the first process of a container. It gets only those signals for which it has a handler."""


class Stoppable(Protocol):
    """Worker interface for signal handlers. Both methods return at once and are safe to call from a handler."""

    def stop_at_signal(self) -> None:
        """Stop gracefully."""
        ...

    def end_at_signal(self, *, cancel: bool) -> None:
        """End at once.

        Parameters
        ----------
        cancel:
            False if the program itself cancels the worker, as :class:`asyncio.Runner` does.
        """
        ...


class SignalCount:
    """Counter of stop signals. A signal that repeats within half a second counts once.

    Parameters
    ----------
    clock:
        Returns monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._last: int | None = None
        self._counted_at = 0.0

    def add(self, number: int) -> int:
        """Count a signal and return the new count, or 0 if the signal repeats the last one."""
        is_near = self._count > 0 and self._clock() - self._counted_at < _SAME
        if is_near and self._last in (number, None):
            return 0
        self._last = number
        return self._add()

    def note_stop(self) -> None:
        """Count a stop request from another process. A signal that follows within half a second repeats it."""
        if self._count == 0:
            self._add()

    @property
    def is_zero(self) -> bool:
        """True if no signal has come."""
        return self._count == 0

    def _add(self) -> int:
        self._counted_at = self._clock()
        self._count += 1
        return self._count


class FormerHandler:
    """What handled a signal before ``loop.add_signal_handler()``, which forgets it.

    It is a handler of Python, or a callback that the program has given to the same loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, number: signal.Signals) -> None:
        self._loop = loop
        self._number = number
        self._handler = signal.getsignal(number)
        self._callback = getattr(loop, "_signal_handlers", {}).get(number)

    def restore(self) -> None:
        """Let it handle the signal again, in place of the callback of the loop."""
        self._loop.remove_signal_handler(self._number)
        if self._callback is not None:
            self._loop.add_signal_handler(self._number, self._callback._callback, *self._callback._args)
        elif self._handler is not None and not self._is_stub:  # None: not set by Python
            signal.signal(self._number, self._handler)

    @property
    def _is_stub(self) -> bool:
        """True for the function that a loop installs for its callbacks. It does nothing without them."""
        return is_of_a_loop(self._handler) and not isinstance(self._handler, functools.partial)


class _Handlers:
    """Signal handlers that all workers of a process share.

    With separate handlers, the first signal would reach only the newest worker.
    """

    def __init__(self) -> None:
        self.workers: list[Stoppable] = []
        self.count = SignalCount()
        self._ends_by: int | None = None
        self._previous = {number: signal.getsignal(number) for number in _SIGNALS}
        self._last_resort = LastResort()
        self._handler = self._handle
        self.install()

    def install(self) -> None:
        """Let signals reach these handlers."""
        for number in _SIGNALS:
            signal.signal(number, self._handler)

    @property
    def are_installed(self) -> bool:
        """True if signals reach these handlers: the program has not replaced them."""
        handler = self._handler
        return getsignal(signal.SIGINT) is handler and getsignal(signal.SIGTERM) is handler

    def former(self, number: int) -> Any:
        """Return the handler that preceded these and those of earlier workers."""
        handler = self._previous[signal.Signals(number)]
        earlier = getattr(handler, "__self__", None)
        return earlier.former(number) if isinstance(earlier, _Handlers) else handler

    def remove(self) -> None:
        """Restore the previous handlers. If a second signal has come, end the process."""
        self._last_resort.cancel()
        self._restore()
        if self._ends_by is not None:
            _do_without_worker(self._ends_by)

    def _restore(self) -> None:
        for number in _SIGNALS:
            if getsignal(number) is self._handler:
                signal.signal(number, self._still_used(number))

    def _still_used(self, number: signal.Signals) -> Any:
        """Return the handler to restore: the earlier worker's if that worker still runs."""
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
"""The latest handlers, if any."""

_is_sole_purpose = False


@contextlib.contextmanager
def sole_purpose() -> Iterator[None]:
    """Let a second signal end the process itself in this block, because the process runs nothing but a worker.

    Otherwise SIGINT raises KeyboardInterrupt, which the program may handle. Python's exit then waits for the threads of
    :func:`asyncio.to_thread`, however long they take.
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
    """Return True if the next stop signal is the first and reaches the workers of this process."""
    return bool(_current) and bool(_current[0].workers) and _current[0].are_installed and _current[0].count.is_zero


def reach_workers() -> bool:
    """Return True if the stop signals reach the workers of this process."""
    return bool(_current) and _current[0].are_installed


def reach_workers_again(loop: asyncio.AbstractEventLoop) -> bool:
    """Install the handlers that a job has replaced. Only the main thread can, and only its jobs can replace them.

    Parameters
    ----------
    loop:
        The loop of the job, which forgets the handlers that the job has added to it.

    Returns
    -------
    False if the handlers are in place.
    """
    if not _current or _current[0].are_installed or threading.current_thread() is not threading.main_thread():
        return False
    for number in _SIGNALS:
        with contextlib.suppress(Exception):
            loop.remove_signal_handler(number)
    _current[0].install()
    return True


def second_ends() -> bool:
    """Return True if a second SIGINT and a second SIGTERM both end the workers of this process.

    A handler of the program may do something else.
    """
    if not (_current and _current[0].are_installed):
        return False
    return all(former in _DEFAULTS or is_of_a_loop(former) for former in map(_current[0].former, _SIGNALS))


def note_stop() -> None:
    """Count the supervisor's stop request as the first signal."""
    if _current:
        _current[0].count.note_stop()


def former_handler(number: int) -> Any:
    """Return the handler of a stop signal, without the workers' handlers."""
    handler = signal.getsignal(number)
    owner = getattr(handler, "__self__", None)
    return owner.former(number) if isinstance(owner, _Handlers) else handler


def forget() -> None:
    """Stop handling signals for workers, in a fork of their process."""
    _current.clear()


def is_of_a_loop(handler: Any) -> bool:
    """Return True if asyncio or uvloop set this signal handler, which acts on an event loop."""
    if isinstance(handler, functools.partial):
        handler = handler.func
    if isinstance(getattr(handler, "__self__", None), asyncio.Runner):
        return True
    module = getattr(handler, "__module__", None) or ""
    return module.split(".")[0] in _LOOP_MODULES


@contextlib.contextmanager
def handled(worker: Stoppable) -> Iterator[None]:
    """Let stop signals stop the worker in this block.

    The first signal stops it gracefully, and the second ends it at once. If that signal ends a process by default, the
    process ends at the end of the block. A third signal acts at once as it would without the worker.

    A handler of the program takes over at the second signal and decides.
    """
    if threading.current_thread() is not threading.main_thread():
        logger.debug(
            "Signals reach only the main thread: no handlers installed", extra={"action": "skip_signal_handlers"}
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
        if worker in handlers.workers:  # false in a process that a job forked
            handlers.workers.remove(worker)
        if not handlers.workers:
            handlers.remove()


def _do_without_worker(number: int) -> None:
    """Let a signal act as it would without the worker, which ends a process that runs nothing but the worker.

    The function flushes the output first, because the signal may end the process.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    if _is_sole_purpose:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    if os.getpid() == _INIT and signal.getsignal(number) is signal.SIG_DFL:
        os._exit(128 + number)
