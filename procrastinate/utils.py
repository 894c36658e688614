"""Helpers for programs written for 3.x. Their current home is another module or the standard library."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from procrastinate._checks.times import from_now, utcnow
from procrastinate._functions.import_path import get_full_path, import_all, load_from_path
from procrastinate.job_context import queues_display
from procrastinate.tasks import add_namespace
from procrastinate.types import TimeDeltaParams

__all__ = [
    "add_namespace",
    "async_to_sync",
    "datetime_from_timedelta_params",
    "get_full_path",
    "import_all",
    "load_from_path",
    "queues_display",
    "sync_to_async",
    "utcnow",
]

T = TypeVar("T")


def async_to_sync(awaitable: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
    """Call a coroutine function from synchronous code, and return its result.

    If asgiref is installed, which Django requires, use it, so that Django's connections are those of this thread.
    """

    async def call() -> T:
        return await awaitable(*args, **kwargs)

    try:
        from asgiref.sync import async_to_sync as asgiref_async_to_sync
    except ImportError:
        return asyncio.run(call())
    return asgiref_async_to_sync(call)()


async def sync_to_async(func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function in a thread. New code uses :func:`asyncio.to_thread`."""
    return await asyncio.to_thread(func, *args, **kwargs)


def datetime_from_timedelta_params(params: TimeDeltaParams) -> datetime.datetime:
    """Return the current time plus ``timedelta(**params)``."""
    return from_now("params", params)
