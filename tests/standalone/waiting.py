"""Waiting for what the server will show, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE = 20.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look again and again until the condition holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {DEADLINE:g} seconds"
        time.sleep(0.01)
