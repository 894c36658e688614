"""The event loop that runs in this thread."""

from __future__ import annotations

import asyncio


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, or ``None`` in sync code."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
