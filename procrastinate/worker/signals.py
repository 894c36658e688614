"""SIGINT and SIGTERM stop all workers of a process gracefully. A second signal does what it would do without them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Handlers:
    """The signal handlers that the workers of a process share: each with its own, the first signal would reach only the
    worker that came last.
    """

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []
        self._previous = {number: signal.getsignal(number) for number in _SIGNALS}
        for number in _SIGNALS:
            signal.signal(number, self._handle)

    @property
    def are_installed(self) -> bool:
        """Whether the next signal comes here: none has come, and nobody has put handlers over these."""
        return all(signal.getsignal(number) == self._handle for number in _SIGNALS)

    def restore(self) -> None:
        """Put back what was there before."""
        for number, handler in self._previous.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.restore()
        for callback in list(self.callbacks):
            callback()


_current: list[_Handlers] = []
"""The latest of them, if there are any."""


def _forget_in_child() -> None:
    """Put back what was there before. A process that a job forks is not the worker: a signal ends it."""
    if _current and _current[0].callbacks:
        _current[0].restore()
        _current[0].callbacks.clear()
        # The worker's event loop reads it. The main thread alone may clear it, and here the forking thread is that.
        signal.set_wakeup_fd(-1)
    _current.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def _installed() -> _Handlers:
    if not (_current and _current[0].are_installed):
        _current[:] = [_Handlers()]
    return _current[0]


def are_handled() -> bool:
    """Return whether the next stop signal comes to the workers of this process: none has come yet."""
    return bool(_current) and bool(_current[0].callbacks) and _current[0].are_installed


@contextlib.contextmanager
def on_stop_signal(callback: Callable[[], None]) -> Iterator[None]:
    """Call ``callback`` at the first stop signal, from a signal handler, then restore what was there before."""
    if threading.current_thread() is not threading.main_thread():
        logger.debug(
            "Signals reach the main thread only: no handlers installed", extra={"action": "skip_signal_handlers"}
        )
        yield
        return
    logger.debug("Installing signal handlers", extra={"action": "install_signal_handlers"})
    handlers = _installed()
    handlers.callbacks.append(callback)
    try:
        yield
    finally:
        logger.debug("Restoring signal handlers", extra={"action": "uninstall_signal_handlers"})
        if callback in handlers.callbacks:  # not in a process that a job has forked
            handlers.callbacks.remove(callback)
        if not handlers.callbacks:
            handlers.restore()
