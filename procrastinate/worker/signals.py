"""SIGINT and SIGTERM stop a worker gracefully; a second one does what it would have done without it."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def on_stop_signal(callback: Callable[[], None]) -> Iterator[None]:
    """Call ``callback`` at the first stop signal, from a signal handler, then restore what was there before."""
    if threading.current_thread() is not threading.main_thread():
        logger.debug(
            "Signals reach the main thread only: no handlers installed", extra={"action": "skip_signal_handlers"}
        )
        yield
        return
    previous = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in previous.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        callback()

    logger.debug("Installing signal handlers", extra={"action": "install_signal_handlers"})
    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        logger.debug("Restoring signal handlers", extra={"action": "uninstall_signal_handlers"})
        restore()
