"""Task middleware that manages Django's connections around a job, as Django does around a request."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from django import db
from django.core.cache import caches
from django.db.backends.base.base import BaseDatabaseWrapper

from procrastinate.adapters.django.context_locals import adopt_locals
from procrastinate.adapters.django.forked_jobs import forget_caches, initialise, job_may_fork
from procrastinate.adapters.django.job_threads import JobThreads
from procrastinate.adapters.django.stray_connections import claim_thread, tidy_strays
from procrastinate.job_context import JobContext

_OF_THE_SESSION = ("connection", "autocommit", "close_at", "health_check_enabled")
"""The attributes of Django's wrapper that describe the open connection and not the code that uses it."""

_threads_by_worker: weakref.WeakKeyDictionary[Any, JobThreads] = weakref.WeakKeyDictionary()


def close_db_connections(call_next: Callable[[], Any], context: JobContext, worker: Any) -> Any:
    """Give a sync task, in its thread, usable connections in the state in which a new thread finds them."""
    adopt_locals()
    tidy_strays()
    forget_caches()  # otherwise the end of one job would close a cache that the program used before for all jobs
    _before_job()
    with job_may_fork():
        try:
            return call_next()
        finally:
            _after_job()


async def close_db_connections_async(call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: Any) -> Any:
    """Give an async task's ORM calls such connections too, in a thread that no other job uses during the run."""
    tidy_strays()
    forget_caches()
    if worker not in _threads_by_worker:
        _threads_by_worker[worker] = JobThreads(_before_job, _after_job, _tidy_shared)
    with job_may_fork():
        async with _threads_by_worker[worker].lend():
            return await call_next()


async def close_idle_connections() -> None:
    """Close connections kept by CONN_MAX_AGE in idle threads of async tasks."""
    for threads in list(_threads_by_worker.values()):
        await threads.call_in_idle(db.connections.close_all)


def _before_job() -> None:
    """Close connections that have become too old or broken since the last job."""
    claim_thread()
    db.close_old_connections()


def _tidy_shared() -> None:
    """Clean up shared connections, which belong to the code that started the worker, for example a test.

    That code may be reading from one, so only a broken connection is closed, and one that is older than CONN_MAX_AGE.
    Without CONN_MAX_AGE, Django closes a connection after each request. The request of that code goes on.
    """
    for connection in db.connections.all(initialized_only=True):
        if connection.in_atomic_block:
            continue
        if connection.settings_dict["CONN_MAX_AGE"] or (connection.errors_occurred and not connection.is_usable()):
            connection.close_if_unusable_or_obsolete()
        connection.queries_log.clear()


def _after_job() -> None:
    for connection in db.connections.all(initialized_only=True):
        if not connection.allow_thread_sharing:  # a shared connection belongs to a test that uses it elsewhere
            _renew(connection)
    caches.close_all()


def _renew(connection: BaseDatabaseWrapper) -> None:
    """Reset Django's wrapper, around the open connection if CONN_MAX_AGE keeps it.

    A job may change anything on the wrapper: a tenant, ``execute_wrappers``, an ``atomic()`` that it does not leave.
    The next job must not see any of it and should not have to reconnect. The same object is initialised again, because
    a new one would leave the old one and everything that refers to it to the garbage collector.
    """
    session: dict[str, Any] = {}
    try:
        if connection.in_atomic_block:
            connection.close()
        else:
            connection.close_if_unusable_or_obsolete()
            session = {name: getattr(connection, name) for name in _OF_THE_SESSION}
    finally:
        initialise(connection)
        vars(connection).update(session)
