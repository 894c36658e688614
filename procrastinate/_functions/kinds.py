"""What a call of a function leads to: a value, a coroutine, or a generator of which no line runs."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Iterator
from types import AsyncGeneratorType, GeneratorType
from typing import Any


@contextlib.contextmanager
def _context() -> Iterator[None]:
    yield


@contextlib.asynccontextmanager
async def _async_context() -> AsyncIterator[None]:
    yield


_LAZY = (GeneratorType, AsyncGeneratorType, map, filter, zip, type(_context()), type(_async_context()))
"""An iterator of another kind may be a file or a cursor, and hold no call."""
_COLLECTIONS = (list, tuple, set)


def is_async_callable(function: Any) -> bool:
    """Return whether a call makes a coroutine: of functions, partials and objects with an async ``__call__``."""
    return any(inspect.iscoroutinefunction(one) for one in _called(function))


def check_function(task_name: str, function: Any) -> None:
    """Refuse what a job cannot run.

    Raises
    ------
    TypeError
        It cannot be called, as a ``classmethod`` in the body of its class. Or it is a generator function, or an object
        with a generator function as its ``__call__``: a job would only make the generator, and run no line of it.
    """
    if not callable(function):
        raise TypeError(
            f"Task {task_name} cannot be called: it is {_kind(function)}. Declare a function, or a method of an object "
            "or of a class that exists"
        )
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
        The task has returned calls that are not made: a generator, ``map()``, what a function under
        ``@contextlib.contextmanager`` returns, or a list with coroutines.
    """
    if value is None:
        return None
    while inspect.isawaitable(value):
        value = await value
    if isinstance(value, _LAZY):
        raise TypeError(
            f"Task {task_name} has returned {_kind(value)}: no line of it has run, loop over it in the task"
        )
    if type(value) in _COLLECTIONS and any(inspect.iscoroutine(one) for one in value):
        for one in value:
            if inspect.iscoroutine(one):
                one.close()  # or Python would warn that it was not awaited
        raise TypeError(f"Task {task_name} has returned coroutines, and none has run: await them, or asyncio.gather()")
    return value


def _kind(value: Any) -> str:
    name = type(value).__name__.replace("_", " ")
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _called(function: Any) -> tuple[Any, Any]:
    """Return what runs when the object is called: the function itself, or the ``__call__`` of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    return function, getattr(function, "__call__", None)  # noqa: B004
