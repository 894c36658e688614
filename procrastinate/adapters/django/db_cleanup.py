"""Task middleware that looks after Django's connections around a job, as Django does around a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django import db

from procrastinate.job_context import JobContext


def close_db_connections(call_next: Callable[[], Any], context: JobContext, worker: Any) -> Any:
    """Around a sync task, in its thread: close connections that are broken or too old, forget the query log."""
    _before_job()
    try:
        return call_next()
    finally:
        _after_job()


async def close_db_connections_async(call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: Any) -> Any:
    """Around an async task: the same for the connections of Django's asynchronous ORM."""
    await sync_to_async(_before_job)()
    try:
        return await call_next()
    finally:
        await sync_to_async(_after_job)()


def _before_job() -> None:
    db.reset_queries()
    db.close_old_connections()


def _after_job() -> None:
    db.close_old_connections()
    db.reset_queries()
