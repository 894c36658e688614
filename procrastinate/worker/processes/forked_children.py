"""A process that a task forks is not the worker: it gets the signal handlers that the program had before the worker.

With the worker's handlers, ``Process.terminate()`` is without effect, and a ``multiprocessing.Pool`` cannot end its
busy processes.
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
"""The thread of each worker or supervisor that runs in the main thread of this process."""


@contextlib.contextmanager
def released() -> Iterator[None]:
    """Give the processes that are forked in this block the handlers of the program.

    A worker has such a block, and so has a supervisor. Outside the main thread neither has handlers, and the block
    changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _workers.append(threading.current_thread())
    try:
        yield
    finally:
        if _workers:  # a forked process has none
            _workers.pop()


def _release() -> None:
    """Run in each forked process, whose main thread is the one that has forked."""
    if not _workers:
        return
    _workers.clear()
    # A signal would be written to the event loop of the parent.
    signal.set_wakeup_fd(-1)
    for number, default in _DEFAULTS.items():
        handler = signals.former_handler(number)
        handler = default if signals.is_of_a_loop(handler) else handler
        if handler is not None and handler != signal.getsignal(number):  # None: not set by Python
            signal.signal(number, handler)
    signals.forget()


os.register_at_fork(after_in_child=_release)
