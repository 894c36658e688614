"""The event loop that runs in this thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, or ``None`` in sync code."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


@contextlib.contextmanager
def outside_of_running_loop() -> Iterator[None]:
    """Run the block as sync code, even if an event loop runs in this thread. The loop stands still until its end.

    The block may start a loop of its own. Another thread could wait for a module that this thread is importing.
    """
    loop = running_loop()
    if loop is None:
        yield
        return
    task = asyncio.current_task(loop)
    if task is not None:
        asyncio._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
        if task is not None:
            asyncio._enter_task(loop, task)
