"""Kinds of callables: sync, async, and generator functions, which a job cannot run."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
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
_COLLECTIONS = (list, tuple, set, frozenset, dict)


def is_async_callable(function: Any) -> bool:
    """Return true if a call returns a coroutine. Partials and objects with an async ``__call__`` count, too."""
    return any(inspect.iscoroutinefunction(one) for one in _called(function))


def check_function(task_name: str, function: Any, *, gets_positional: bool = True) -> None:
    """Refuse an object that a job cannot run.

    Raises
    ------
    TypeError
        The object is not callable, like a ``classmethod`` in the body of its class. Or it is a generator function or an
        object with a generator function as its ``__call__``, and a job would make the generator without running it.
        Or it is a ``functools.singledispatch`` function, and its first argument is not given by position. Or it is a
        class with a method ``run`` or ``__call__``, as Celery has them, and a job would only make an object.
    """
    if not callable(function):
        raise TypeError(
            f"Task {task_name} cannot be called: it is {_kind(function)}. Declare a function, or a method of an object "
            "or of a class that exists"
        )
    if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in _called(function)):
        raise TypeError(
            f"Task {task_name} is a generator function, and a job would not run any of its lines: "
            "write a function without yield that loops over the generator"
        )
    method = _method_to_run(function)
    if method is not None:
        raise TypeError(
            f"Task {task_name} is a class, and a job would make an object without calling its {method}(): "
            "declare a function, or a method of an object"
        )
    if not gets_positional and _is_single_dispatch(function):
        raise TypeError(
            f"Task {task_name} is a singledispatch function, which chooses by its first argument by position, and jobs "
            "give arguments by name: write a function that calls it"
        )


async def settle(task_name: str, value: Any, wait_for: Callable[[Awaitable[Any]], Awaitable[Any]] | None = None) -> Any:
    """Return the return value of a task, and wait for it first if it is a coroutine or a future.

    A lambda around an async function returns a coroutine. A task that gives its work to a pool of threads or processes,
    or to another event loop, may return the future, or a list or dict of futures. Each gives way to its result.

    Parameters
    ----------
    wait_for:
        Awaits a coroutine or another awaitable that the task has returned.

    Raises
    ------
    TypeError
        The value holds calls that have not run: a generator, ``map()``, a context manager that a function under
        ``@contextlib.contextmanager`` returns, or a list or dict with coroutines. Or it is or holds a result of
        :mod:`multiprocessing.pool`, for which only a blocking call can wait.
    """
    if value is None:
        return None
    while True:
        if inspect.isawaitable(value):
            value = await (value if wait_for is None else wait_for(value))
        elif _is_future_of_a_pool(value):
            value = await _wait_for(value)
        else:
            break
    if isinstance(value, _LAZY) or type(value).__module__ == "itertools":
        raise TypeError(
            f"Task {task_name} has returned {_kind(value)}: no line of it has run, loop over it in the task"
        )
    if type(value) in _COLLECTIONS:
        return await _settle_elements(task_name, value)
    _refuse_results_of_a_pool(task_name, value)
    return value


async def _settle_elements(task_name: str, collection: Any) -> Any:
    """Return a collection with the results of its futures, after all of them have ended."""
    elements = _elements(collection)
    coroutines = [one for one in elements if inspect.iscoroutine(one)]
    for one in coroutines:
        one.close()  # avoids Python's warning about a coroutine that was never awaited
    if coroutines:
        raise TypeError(f"Task {task_name} has returned coroutines, and none has run: await them, or asyncio.gather()")
    for one in elements:
        _refuse_results_of_a_pool(task_name, one)
    kinds = tuple(sys.modules[name].Future for name in ("asyncio", "concurrent.futures") if name in sys.modules)
    futures = [one for one in elements if isinstance(one, kinds)]
    if not futures:
        return collection
    await _wait_for_all(futures)
    results = {id(future): future.result() for future in futures}
    if isinstance(collection, dict):
        return {key: results.get(id(one), one) for key, one in collection.items()}
    return [results.get(id(one), one) for one in collection]


def _refuse_results_of_a_pool(task_name: str, value: Any) -> None:
    if type(value).__module__ == "multiprocessing.pool":
        raise TypeError(
            f"Task {task_name} has returned {_kind(value)}, whose calls may go on: wait for them in the task, "
            "for example with get()"
        )


def _is_future_of_a_pool(value: Any) -> bool:
    futures = sys.modules.get("concurrent.futures")  # without the module there is no such object
    return futures is not None and isinstance(value, futures.Future)


async def _wait_for_all(futures: list[Any]) -> None:
    """Wait until all have ended, whatever they raise."""
    import asyncio

    from procrastinate._running_loop import running_loop

    if running_loop() is None:
        sys.modules["concurrent.futures"].wait(futures)
    else:
        await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)


async def _wait_for(future: Any) -> Any:
    import asyncio  # a program that declares tasks may not need it

    from procrastinate._running_loop import running_loop

    if running_loop() is None:  # sync code runs the job, as in a test
        return future.result()
    return await asyncio.wrap_future(future)


def _method_to_run(function: Any) -> str | None:
    """Return the name of the method that the author of a class wants to be run."""
    if not isinstance(function, type):
        return None
    return next((name for name in ("run", "__call__") if inspect.isfunction(getattr(function, name, None))), None)


def _elements(collection: Any) -> list[Any]:
    """Return the elements, and of a dict the keys and the values."""
    return [*collection, *collection.values()] if isinstance(collection, dict) else list(collection)


def _is_single_dispatch(function: Any) -> bool:
    """Return true for what ``functools.singledispatch`` returns, and not for a wrapper that has its attributes."""
    names = ("dispatch", "register", "_clear_cache")
    wrapped = getattr(function, "__wrapped__", None)
    return all(callable(getattr(function, name, None)) for name in names) and not hasattr(wrapped, "dispatch")


def _kind(value: Any) -> str:
    name = type(value).__name__.strip("_").replace("_", " ")
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _called(function: Any) -> tuple[Any, Any]:
    """Return the function inside partials, and its ``__call__``. One of them runs when the object is called."""
    while isinstance(function, functools.partial):
        function = function.func
    return function, getattr(function, "__call__", None)  # noqa: B004
