"""Code around each run of a task: task middleware in the task's own thread or coroutine, worker middleware outside."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from procrastinate import exceptions
from procrastinate._functions.kinds import is_async_callable

if TYPE_CHECKING:
    from procrastinate.job_context import JobContext
    from procrastinate.worker import Worker

SyncTaskMiddleware: TypeAlias = "Callable[[Callable[[], Any], JobContext, Worker], Any]"
AsyncTaskMiddleware: TypeAlias = "Callable[[Callable[[], Awaitable[Any]], JobContext, Worker], Awaitable[Any]]"
TaskMiddleware: TypeAlias = "SyncTaskMiddleware | AsyncTaskMiddleware"
WorkerMiddleware: TypeAlias = "Callable[[Callable[[], Awaitable[Any]], JobContext, Worker], Awaitable[Any]]"


def is_async_middleware(middleware: TaskMiddleware) -> bool:
    """Whether a middleware is for async tasks."""
    return is_async_callable(middleware)


def check_task_middleware(middleware: Sequence[TaskMiddleware], *, task_name: str, task_is_async: bool) -> None:
    """Refuse middleware of the wrong kind.

    Raises
    ------
    TypeError
        It cannot be called.
    MiddlewareKindMismatch
        It is sync and the task is async, or the reverse.
    """
    check_callable(middleware, argument="task_middleware")
    for one in middleware:
        if is_async_middleware(one) is not task_is_async:
            kind, wanted = ("sync", "an async") if task_is_async else ("async", "a sync")
            raise exceptions.MiddlewareKindMismatch(
                f"{one!r} is {kind}, and task {task_name} needs {wanted} middleware"
            )


def check_worker_middleware(middleware: Sequence[WorkerMiddleware]) -> None:
    """Refuse worker middleware that cannot be awaited, as :func:`check_task_middleware` does."""
    check_callable(middleware, argument="worker_middleware")
    for one in middleware:
        if not is_async_callable(one):
            raise exceptions.MiddlewareKindMismatch(
                f"{one!r} is sync, and worker middleware is async: it runs on the event loop, for sync tasks too"
            )


def check_callable(middleware: Sequence[Any], *, argument: str) -> None:
    """Refuse what cannot be called, naming the argument."""
    for one in middleware:
        if not callable(one):
            raise TypeError(f"{argument} takes callables, not {one!r}")


def compose(
    middleware: Sequence[Callable[..., Any]],
    run_task: Callable[[], Any],
    context: JobContext | None,
    worker: Worker | None,
) -> Callable[[], Any]:
    """The call of the task with the middleware around it, the first outermost."""
    call = run_task
    for one in reversed(middleware):
        call = functools.partial(one, call, context, worker)
    return call
