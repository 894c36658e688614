"""What a call of a function leads to: a value, a coroutine, or a generator of which no line runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def is_async_callable(function: Any) -> bool:
    """Return whether a call makes a coroutine: of functions, partials and objects with an async ``__call__``."""
    return any(inspect.iscoroutinefunction(one) for one in _called(function))


def check_not_generator(task_name: str, function: Callable[..., Any]) -> None:
    """Refuse a generator function: a job would only make the generator, and run no line of it.

    Raises
    ------
    TypeError
        The function, or the ``__call__`` of the object, has a ``yield``.
    """
    if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in _called(function)):
        raise TypeError(
            f"Task {task_name} is a generator function, and a job would run no line of it: "
            "write a function without yield that loops over the generator"
        )


async def settle(task_name: str, value: Any) -> Any:
    """Return what a task has returned, awaited if it is awaitable: a lambda around an async function, say.

    Raises
    ------
    TypeError
        The task has returned a generator: no line of it has run.
    """
    if value is None:
        return None
    while inspect.isawaitable(value):
        value = await value
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise TypeError(f"Task {task_name} has returned a generator: no line of it has run, loop over it in the task")
    return value


def _called(function: Any) -> tuple[Any, Any]:
    """Return what runs when the object is called: the function itself, or the ``__call__`` of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    return function, getattr(function, "__call__", None)  # noqa: B004
