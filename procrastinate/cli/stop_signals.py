"""How signals end the sub-commands that run no worker."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_INIT = 1
"""Process id of the first process of a container."""


@contextlib.contextmanager
def sigterm_exits() -> Iterator[None]:
    """Raise ``SystemExit`` at SIGTERM in this block, unless the program handles or ignores that signal.

    By default SIGTERM ends a process at once. A statement that waits for a lock then goes on waiting at the server. And
    it does not end the first process of a container, which gets only those signals for which it has a handler.
    """
    with _in_place_of_default(_exit):
        yield


@contextlib.contextmanager
def sigterm_ends_first_process() -> Iterator[None]:
    """Let SIGTERM end the first process of a container in this block at once, as it ends any other process.

    For the import of the program, which may take long. An exception in it would look like an error of the program.
    """
    with _in_place_of_default(_end) if os.getpid() == _INIT else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _in_place_of_default(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if not _is_main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is handler:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], object]) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM in this block call a function, and a second one end the block at once.

    The code of the block may wait for the database, and hears of the first signal only after that.

    Raises
    ------
    KeyboardInterrupt
        A second signal has come.
    """
    if not _is_main_thread():  # the command runs in a thread of an event loop, whose program has the signals
        yield
        return
    from procrastinate.worker.processes.signals import SignalCount  # slow, and most commands need none

    count = SignalCount()

    def handle(number: int, frame: FrameType | None) -> None:
        counted = count.add(number)
        if counted == 1:
            stop()
        elif counted > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
