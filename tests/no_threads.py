"""A system that refuses threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_BEYOND_MEMORY = 2**50
"""Bytes that no address space has."""


@contextlib.contextmanager
def no_threads() -> Iterator[None]:
    """Let no thread start in this block, as at the limit of processes. New threads get a stack that is too large."""
    usual = threading.stack_size(_BEYOND_MEMORY)
    try:
        yield
    finally:
        threading.stack_size(usual)
