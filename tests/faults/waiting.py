"""Waiting for what happens in other processes, and on a server that may be away."""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy as sa

from procrastinate import exceptions

PATIENCE = 90.0
"""Seconds. Nothing here takes long; the machine may be busy."""

_AWAY = (sa.exc.DBAPIError, exceptions.ConnectorException)


def until(condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
    """Wait until something is the case. While the database is away, it is not."""
    deadline = time.monotonic() + within
    while not _is_true(condition):
        if time.monotonic() > deadline:
            raise AssertionError(f"Not within {within:g} s: {what}")
        time.sleep(0.05)


def _is_true(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except _AWAY:
        return False
