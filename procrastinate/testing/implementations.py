"""The map from database operations to their in-memory forms."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from procrastinate.testing.tables import Tables

P = ParamSpec("P")
R = TypeVar("R")

Implementation = Callable[Concatenate[Tables, P], R]


class Implementations(dict[Callable[..., Any], Callable[..., Any]]):
    """In-memory functions on :class:`Tables`, by the database operation that each replaces."""

    def of(
        self, operation: Callable[Concatenate[sa.Connection, P], R]
    ) -> Callable[[Implementation[P, R]], Implementation[P, R]]:
        """Register the decorated function as the in-memory form of an operation with the same signature."""

        def register(implementation: Implementation[P, R]) -> Implementation[P, R]:
            self[operation] = implementation
            return implementation

        return register


def unwrapped(
    operation: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Return the operation and all its arguments, with the arguments of each :func:`functools.partial` merged in."""
    while isinstance(operation, functools.partial):
        args, kwargs = (*operation.args, *args), {**operation.keywords, **kwargs}
        operation = operation.func
    return operation, args, kwargs
