"""SIGINT and SIGTERM stop all workers of a process gracefully. A second signal does what it would do without them."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from procrastinate.logs import get_logger

logger = get_logger(__name__)

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

    def former(self, number: int) -> Any:
        """Return the handler that was there before these, or those of an earlier worker."""
        handler = self._previous[signal.Signals(number)]
        earlier = getattr(handler, "__self__", None)
        return earlier.former(number) if isinstance(earlier, _Handlers) else handler

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.restore()
        for callback in list(self.callbacks):
            callback()


_current: list[_Handlers] = []
"""The latest of them, if there are any."""


def _installed() -> _Handlers:
    if not (_current and _current[0].are_installed):
        _current[:] = [_Handlers()]
    return _current[0]


def are_handled() -> bool:
    """Return whether the next stop signal comes to the workers of this process: none has come yet."""
    return bool(_current) and bool(_current[0].callbacks) and _current[0].are_installed


def former_handler(number: int) -> Any:
    """Return the handler of a stop signal as it is without those of the workers."""
    handler = signal.getsignal(number)
    owner = getattr(handler, "__self__", None)
    return owner.former(number) if isinstance(owner, _Handlers) else handler


def forget() -> None:
    """Handle no stop signals for the workers of this process: it is a fork of theirs."""
    _current.clear()


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
