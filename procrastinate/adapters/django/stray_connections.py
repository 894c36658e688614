"""Connections that jobs open in other threads than their own, as with :func:`asyncio.to_thread`.

Such a thread belongs to no job, so no job cleans up in it. Django looks at an open connection only where a request or a
job begins and ends. Once the server has cut the connection, every later call in the thread would fail.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

_thread = threading.local()
_strays: dict[int, weakref.ref[BaseDatabaseWrapper]] = {}


def claim_thread() -> None:
    """Note that the connections of this thread are cleaned up around each job."""
    _thread.belongs_to_jobs = True


def tidy_strays() -> None:
    """Close the broken connections of other threads, from any thread, before a job runs.

    The next call in such a thread connects again. What runs there now has lost its connection already.
    """
    _watch()
    for key, reference in list(_strays.items()):
        connection = reference()
        if connection is None:
            if _strays.get(key) is reference:  # otherwise a new connection has the same id
                del _strays[key]
        else:
            _close_if_broken(connection)


@functools.cache
def _watch() -> None:
    connection_created.connect(_note)


def _note(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if not getattr(_thread, "belongs_to_jobs", False):
        _strays[id(connection)] = weakref.ref(connection)


def _close_if_broken(connection: BaseDatabaseWrapper) -> None:
    """Close a connection after an error that has ended its session. A transaction closes its connection by itself.

    It does what Django's ``close()`` does, which refuses other threads and event loops. The thread of the connection
    may connect again at this moment. The new session stays.
    """
    session: Any = connection.connection
    if not connection.errors_occurred or connection.in_atomic_block or not connection.autocommit:
        return
    if not getattr(session, "closed", False):
        return
    with contextlib.suppress(Exception):
        connection._close() if connection.connection is session else session.close()  # type: ignore[attr-defined]
    if connection.connection is session:
        connection.connection = None
