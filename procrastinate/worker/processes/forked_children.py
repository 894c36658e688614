"""Restore the program's own signal handlers in a process that a task forks, because it is not the worker.

With the worker's handlers, ``Process.terminate()`` has no effect, and a ``multiprocessing.Pool`` cannot end its busy
processes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeAlias

from procrastinate.worker.processes import signals

_Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | None

_DEFAULTS: dict[int, _Handler] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

_workers: list[threading.Thread] = []
"""Main thread of this process, once for each worker or supervisor that runs in it."""


@contextlib.contextmanager
def released() -> Iterator[None]:
    """Give processes that are forked in this block the program's signal handlers.

    Each worker and each supervisor has such a block. Outside the main thread neither has handlers, and the block
    changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _workers.append(threading.current_thread())
    try:
        yield
    finally:
        if _workers:  # empty in a forked process
            _workers.pop()


def _release() -> None:
    """Restore the handlers in a forked process, whose main thread is the thread that forked."""
    if not _workers:
        return
    _workers.clear()
    # Otherwise Python writes signals to the event loop of the parent.
    signal.set_wakeup_fd(-1)
    for number, default in _DEFAULTS.items():
        handler = signals.former_handler(number)
        handler = default if signals.is_of_a_loop(handler) else handler
        if handler is not None and handler != signal.getsignal(number):  # None: not set by Python
            signal.signal(number, handler)
    signals.forget()


os.register_at_fork(after_in_child=_release)
