"""Objects that stand in for a function, so that frameworks inspect them like the function."""

from __future__ import annotations

import asyncio.coroutines
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, cast

_OF_A_FUNCTION = ("__code__", "__defaults__", "__kwdefaults__")
"""Before Python 3.12, :mod:`inspect` treats an object with these as a function, and reads the kind from its code."""


def stand_in_for(function: Callable[..., Any], stand_in: Callable[..., Any], *, is_async: bool) -> None:
    """Give the object the name, documentation, signature and kind of the function.

    Parameters
    ----------
    is_async:
        True if a call returns a coroutine. Frameworks that run sync functions in threads must detect this.
        :mod:`unittest.mock` must not, because it would patch the task with an AsyncMock, whose ``defer()`` is async.
        It looks at ``__func__`` first.
    """
    functools.update_wrapper(stand_in, function, (*functools.WRAPPER_ASSIGNMENTS, *_OF_A_FUNCTION), updated=())
    if not is_async:
        return
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(stand_in)
    else:
        cast("Any", stand_in)._is_coroutine = cast("Any", asyncio.coroutines)._is_coroutine
    cast("Any", stand_in).__func__ = type(stand_in).__call__
