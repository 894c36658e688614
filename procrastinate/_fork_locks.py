"""Locks that a forked process can use, though another thread held them at the fork. Private.

Only the thread that forks lives in the new process. A lock that another thread held stays locked there, and the first
defer of the new process would wait for good. So a fork waits until the other threads have left the locks made here.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _thread import RLock

_LONGEST_WAIT = 2.0
"""Seconds that a fork waits for all locks together. A lock may be held by a thread that waits for this one."""
_TRIES = 10

_locks: weakref.WeakSet[RLock] = weakref.WeakSet()
_of_this_thread = threading.local()


def fork_lock() -> RLock:
    """Return a new reentrant lock, free in each process that is forked from this one."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def _acquire() -> None:
    end = time.monotonic() + _LONGEST_WAIT
    held: list[RLock] = []
    _of_this_thread.held = held
    for lock in _known():
        if lock.acquire(timeout=max(end - time.monotonic(), 0.0)):
            held.append(lock)


def _known() -> list[RLock]:
    for _ in range(_TRIES):
        with contextlib.suppress(RuntimeError):  # another thread makes a lock at this moment
            return list(_locks)
    return []


def _release() -> None:
    for lock in reversed(_of_this_thread.__dict__.pop("held", ())):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_acquire, after_in_parent=_release, after_in_child=_release)
