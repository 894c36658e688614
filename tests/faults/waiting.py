"""Waiting for what happens in other processes, and on a server that may be away."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from procrastinate import exceptions

PATIENCE = 90.0
"""Seconds. Nothing here takes long; the machine may be busy."""

_AWAY = (sa.exc.DBAPIError, exceptions.ConnectorException)

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, within: float = PATIENCE) -> T:
    """Wait until something is the case, and return it. While the database is away, it is not."""
    deadline = time.monotonic() + within
    while True:
        with contextlib.suppress(*_AWAY):
            if found := condition():
                return found
        if time.monotonic() > deadline:
            raise AssertionError(f"Not within {within:g} s: {what}")
        time.sleep(0.05)
