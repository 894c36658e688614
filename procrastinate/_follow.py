"""Run the operations of a decision, from sync and async code: see :mod:`procrastinate.core.tries`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from procrastinate import exceptions
from procrastinate.core.tries import Tries

R = TypeVar("R")


def follow(run: Callable[..., Any], tries: Tries[R]) -> R:
    """Run the tries, and return their result."""
    try:
        one = next(tries)
        while True:
            try:
                result = run(one.operation, *one.arguments, **one.options)
            except exceptions.ConnectorException as error:
                one = tries.throw(error)
            else:
                one = tries.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def follow_async(run: Callable[..., Awaitable[Any]], tries: Tries[R]) -> R:
    """Asynchronous version of :func:`follow`."""
    try:
        one = next(tries)
        while True:
            try:
                result = await run(one.operation, *one.arguments, **one.options)
            except exceptions.ConnectorException as error:
                one = tries.throw(error)
            else:
                one = tries.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
