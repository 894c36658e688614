"""Let a process that a job forks connect by itself. The connections and threads that it inherits belong to the worker.

Django keeps a connection per thread. A forked process has the thread and so the connection, and both processes would
read from one socket. The threads of the asynchronous ORM do not exist there, and a call would wait for them for good.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import SyncToAsync
from django import db
from django.core.cache import caches
from django.db.backends.base.base import BaseDatabaseWrapper

_jobs: list[None] = []
"""One entry for each running job of this process."""
_inherited: list[Any] = []
"""What the parent uses. A driver may end the session of an object that goes to the garbage collector."""


@contextlib.contextmanager
def job_may_fork() -> Iterator[None]:
    """Forget the worker's connections in processes that are forked during this block."""
    _jobs.append(None)
    try:
        yield
    finally:
        if _jobs:  # empty in a forked process
            _jobs.pop()


def initialise(connection: BaseDatabaseWrapper) -> None:
    """Bring Django's wrapper into the state of a new one, without a connection and without closing one.

    The object stays the same, because code may refer to it.
    """
    alias = connection.alias
    vars(connection).clear()
    type(connection).__init__(connection, db.connections.settings[alias], alias)


def forget_caches() -> None:
    """Make this thread create its own cache objects at the next use."""
    for alias in caches:
        with contextlib.suppress(AttributeError):  # the program has not used this one
            del caches[alias]


def _forget() -> None:
    if not _jobs:
        return
    _jobs.clear()
    for connection in db.connections.all(initialized_only=True):
        _inherited.append(dict(vars(connection)))
        pools = getattr(type(connection), "_connection_pools", {})
        _inherited.extend(pools.values())
        pools.clear()
        initialise(connection)
    _inherited.extend(caches.all(initialized_only=True))
    forget_caches()
    _inherited.extend(SyncToAsync.context_to_thread_executor.values())
    _inherited.append(SyncToAsync.single_thread_executor)
    SyncToAsync.context_to_thread_executor.clear()
    SyncToAsync.single_thread_executor = ThreadPoolExecutor(max_workers=1)
    SyncToAsync.deadlock_context.set(False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
