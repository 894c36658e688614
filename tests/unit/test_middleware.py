"""Middleware: its kinds, and its order."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate._functions.kinds import is_async_callable
from procrastinate.app import App
from procrastinate.middleware import check_task_middleware, compose


def sync_middleware(call_next: Callable[[], Any], context: Any, worker: Any) -> Any:
    return call_next()


async def async_middleware(call_next: Callable[[], Any], context: Any, worker: Any) -> Any:
    return await call_next()


class AsyncObject:
    async def __call__(self, call_next: Callable[[], Any], context: Any, worker: Any) -> Any:
        return await call_next()


class SyncObject:
    def __call__(self, call_next: Callable[[], Any], context: Any, worker: Any) -> Any:
        return call_next()


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (sync_middleware, False),
        (async_middleware, True),
        (functools.partial(async_middleware), True),
        (functools.partial(functools.partial(sync_middleware)), False),
        (AsyncObject(), True),
        (SyncObject(), False),
        (AsyncObject().__call__, True),
        (3, False),
    ],
)
def test_what_is_async(function: Any, is_async: bool) -> None:
    assert is_async_callable(function) is is_async


@pytest.mark.parametrize(("right", "wrong"), [(sync_middleware, async_middleware), (SyncObject(), AsyncObject())])
def test_a_sync_task_takes_sync_middleware(right: Any, wrong: Any) -> None:
    check_task_middleware([right], task_name="task", task_is_async=False)
    with pytest.raises(exceptions.MiddlewareKindMismatch, match="task needs a sync"):
        check_task_middleware([right, wrong], task_name="task", task_is_async=False)


@pytest.mark.parametrize(("right", "wrong"), [(async_middleware, sync_middleware), (AsyncObject(), SyncObject())])
def test_an_async_task_takes_async_middleware(right: Any, wrong: Any) -> None:
    check_task_middleware([right], task_name="task", task_is_async=True)
    with pytest.raises(exceptions.MiddlewareKindMismatch, match="task needs an async"):
        check_task_middleware([right, wrong], task_name="task", task_is_async=True)


def test_middleware_is_checked_where_the_task_is_declared(app: App) -> None:
    with pytest.raises(exceptions.MiddlewareKindMismatch):
        app.task(name="task", task_middleware=[async_middleware])(lambda: None)
    with pytest.raises(TypeError, match="task_middleware takes callables, not 3"):
        app.task(name="task", task_middleware=[3])(lambda: None)  # type: ignore[list-item]
    assert "task" not in app.tasks


def named(name: str, calls: list[str]) -> Callable[..., Any]:
    def middleware(call_next: Callable[[], Any], context: Any, worker: Any) -> Any:
        calls.append(f"{name} before")
        result = call_next()
        calls.append(f"{name} after")
        return f"{name}({result})"

    return middleware


def test_the_first_is_the_outermost() -> None:
    calls: list[str] = []
    call = compose([named("a", calls), named("b", calls)], lambda: "task", None, None)
    assert call() == "a(b(task))"
    assert calls == ["a before", "b before", "b after", "a after"]


def test_each_gets_the_context_and_the_worker() -> None:
    seen: list[Any] = []

    def middleware(call_next: Callable[[], Any], context: Any, worker: Any) -> Any:
        seen.extend([context, worker])
        return call_next()

    context: Any = object()
    worker: Any = object()
    assert compose([middleware], lambda: 1, context, worker)() == 1
    assert seen == [context, worker]


def test_a_middleware_may_answer_itself() -> None:
    def refuse(call_next: Callable[[], Any], context: Any, worker: Any) -> str:
        return "not today"

    assert compose([refuse], lambda: pytest.fail("was called"), None, None)() == "not today"


def test_without_middleware_the_task_is_called() -> None:
    assert compose([], lambda: 5, None, None)() == 5


def test_middleware_that_takes_other_arguments_is_refused_where_it_is_written(app: App) -> None:
    """Middleware of other frameworks takes a request, or no context."""

    async def of_another_framework(request: Any, call_next: Any) -> Any: ...

    message = r"is called with \(call_next, context, worker\), and .*of_another_framework.* too many positional"
    with pytest.raises(TypeError, match=f"task_middleware {message}"):
        app.task(name="task", task_middleware=[of_another_framework])(async_middleware)
    with pytest.raises(TypeError, match=f"worker_middleware {message}"):
        app.make_worker(worker_middleware=[of_another_framework])


def test_middleware_in_a_wrapper_that_passes_more_is_taken(app: App) -> None:
    def with_name(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*arguments: Any) -> Any:
            return function("name", *arguments)

        return wrapper

    @with_name
    def named(name: str, call_next: Any, context: Any, worker: Any) -> Any: ...

    assert app.task(name="task", task_middleware=[named])(lambda: None).task_middleware == [named]
