"""Task middleware that looks after Django's connections around a job, as Django does around a request."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from django import db
from django.core.cache import caches
from django.db.backends.base.base import BaseDatabaseWrapper

from procrastinate.adapters.django.context_locals import adopt_locals
from procrastinate.adapters.django.job_threads import JobThreads
from procrastinate.job_context import JobContext

_OF_THE_SESSION = ("connection", "autocommit", "close_at", "health_check_enabled")
"""What Django's wrapper knows of the open connection, and not of the code that uses it."""

_threads_by_worker: weakref.WeakKeyDictionary[Any, JobThreads] = weakref.WeakKeyDictionary()


def close_db_connections(call_next: Callable[[], Any], context: JobContext, worker: Any) -> Any:
    """Around a sync task, in its thread: the job finds Django's connections as a new thread does, and usable."""
    adopt_locals()
    _forget_caches()
    _before_job()
    try:
        return call_next()
    finally:
        _after_job()


async def close_db_connections_async(call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: Any) -> Any:
    """Around an async task: the same for Django's asynchronous ORM, in a thread that no other job uses meanwhile."""
    _forget_caches()
    if worker not in _threads_by_worker:
        _threads_by_worker[worker] = JobThreads(_before_job, _after_job, _tidy_shared)
    async with _threads_by_worker[worker].lend():
        return await call_next()


async def close_idle_connections() -> None:
    """Close the connections that CONN_MAX_AGE keeps, in the threads of async tasks that no job uses."""
    for threads in list(_threads_by_worker.values()):
        await threads.call_in_idle(db.connections.close_all)


def _forget_caches() -> None:
    """Let the job make its own cache objects. Django makes one for each thread, since not all are safe to share.

    A program that has used a cache before it starts the worker would hand its object to every job. The end of one job
    would close it under the others.
    """
    for alias in caches:
        with contextlib.suppress(AttributeError):  # the program has not used this one
            del caches[alias]


def _before_job() -> None:
    """A connection that was kept may have become too old since, or have broken."""
    db.close_old_connections()


def _tidy_shared() -> None:
    """Leave a transaction of the code that has started the worker alone, as a test has one."""
    for connection in db.connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
            connection.queries_log.clear()


def _after_job() -> None:
    for connection in db.connections.all(initialized_only=True):
        if not connection.allow_thread_sharing:  # otherwise it is a test's, and in use elsewhere
            _renew(connection)
    caches.close_all()


def _renew(connection: BaseDatabaseWrapper) -> None:
    """Make Django's wrapper as new again, around the open connection where CONN_MAX_AGE keeps it.

    A job may set anything on the wrapper: a tenant, ``execute_wrappers``, an ``atomic()`` that it does not leave. The
    next job must find nothing of it, and should not have to connect again for that. The same object is initialised
    again: another would leave the old one, and all that refers to it, to the garbage collector.
    """
    alias = connection.alias
    session: dict[str, Any] = {}
    try:
        if connection.in_atomic_block:
            connection.close()
        else:
            connection.close_if_unusable_or_obsolete()
            session = {name: getattr(connection, name) for name in _OF_THE_SESSION}
    finally:
        vars(connection).clear()
        type(connection).__init__(connection, db.connections.settings[alias], alias)
        vars(connection).update(session)
