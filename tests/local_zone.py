"""The time zone of this process, changed for a test."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def local_zone(name: str) -> Iterator[None]:
    """Change the time zone of the process, and restore the zone of the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", name)
        time.tzset()
        yield
    time.tzset()
