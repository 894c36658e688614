"""Objects that stand in for a function, so that frameworks inspect them like the function."""

from __future__ import annotations

import asyncio.coroutines
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, cast

_MOCKS = ("unittest.mock", "mock.mock")
"""The modules of the standard library and of its backport on PyPI."""
_OF_A_FUNCTION = ("__code__", "__defaults__", "__kwdefaults__")
"""Before Python 3.12, :mod:`inspect` treats an object with these as a function, and reads the kind from its code."""


def stand_in_for(function: Callable[..., Any], stand_in: Callable[..., Any], *, is_async: bool) -> None:
    """Give the object the name, documentation, signature and kind of the function.

    Parameters
    ----------
    is_async:
        True if a call returns a coroutine. Frameworks that run sync functions in threads must detect this.
    """
    functools.update_wrapper(stand_in, function, (*functools.WRAPPER_ASSIGNMENTS, *_OF_A_FUNCTION), updated=())
    if not is_async:
        return
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(stand_in)
    else:
        cast("Any", stand_in)._is_coroutine = cast("Any", asyncio.coroutines)._is_coroutine


class CallForMocks:
    """The attribute ``__func__`` of a stand-in, which only :mod:`unittest.mock` sees.

    It looks there before it asks whether an object is a coroutine function. It must not find one, because it would
    patch an async task with an AsyncMock, whose ``defer()`` is async. Code that finds ``__func__`` takes the object for
    a bound method: Django's signals then ask for its ``__self__``.
    """

    def __get__(self, instance: object, owner: type[Any]) -> Any:
        if sys._getframe(1).f_globals.get("__name__") not in _MOCKS:
            raise AttributeError("__func__")
        return owner.__call__
