"""Middleware around each run of a task.

Task middleware runs in the task's own thread or coroutine. Worker middleware runs outside of it, on the event loop.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from procrastinate import exceptions
from procrastinate._functions.kinds import is_async_callable
from procrastinate._functions.signature import check_takes

if TYPE_CHECKING:
    from procrastinate.job_context import JobContext
    from procrastinate.worker import Worker

SyncTaskMiddleware: TypeAlias = "Callable[[Callable[[], Any], JobContext, Worker], Any]"
AsyncTaskMiddleware: TypeAlias = "Callable[[Callable[[], Awaitable[Any]], JobContext, Worker], Awaitable[Any]]"
TaskMiddleware: TypeAlias = "SyncTaskMiddleware | AsyncTaskMiddleware"
WorkerMiddleware: TypeAlias = "Callable[[Callable[[], Awaitable[Any]], JobContext, Worker], Awaitable[Any]]"


def is_async_middleware(middleware: TaskMiddleware) -> bool:
    """Return true for async middleware, which fits async tasks only."""
    return is_async_callable(middleware)


def check_task_middleware(middleware: Sequence[TaskMiddleware], *, task_name: str, task_is_async: bool) -> None:
    """Refuse middleware of the wrong kind.

    Raises
    ------
    TypeError
        A middleware is not callable with ``(call_next, context, worker)``.
    MiddlewareKindMismatch
        A middleware is sync and the task is async, or the reverse.
    """
    check_callable(middleware, argument="task_middleware")
    for one in middleware:
        if is_async_middleware(one) is not task_is_async:
            kind, wanted = ("sync", "an async") if task_is_async else ("async", "a sync")
            raise exceptions.MiddlewareKindMismatch(
                f"{one!r} is {kind}, and task {task_name} needs {wanted} middleware"
            )


def check_worker_middleware(middleware: Sequence[WorkerMiddleware]) -> None:
    """Refuse worker middleware that is not async. The exceptions are those of :func:`check_task_middleware`."""
    check_callable(middleware, argument="worker_middleware")
    for one in middleware:
        if not is_async_callable(one):
            raise exceptions.MiddlewareKindMismatch(
                f"{one!r} is sync, but worker middleware must be async: it runs on the event loop, even for sync tasks"
            )


def check_callable(middleware: Sequence[Any], *, argument: str) -> None:
    """Raise ``TypeError`` for an item that cannot be called like middleware. The message names the argument."""
    for one in middleware:
        if not callable(one):
            raise TypeError(f"{argument} takes callables, not {one!r}")
        check_takes(argument, one, "call_next", "context", "worker")


def compose(
    middleware: Sequence[Callable[..., Any]],
    run_task: Callable[[], Any],
    context: JobContext | None,
    worker: Worker | None,
) -> Callable[[], Any]:
    """Return a callable that runs the task inside the middleware. The first middleware is outermost."""
    call = run_task
    for one in reversed(middleware):
        call = functools.partial(one, call, context, worker)
    return call
