"""Which function on the tables in memory does what which operation on the database does."""

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
    """Functions on :class:`Tables`, by the operation that each stands for."""

    def of(
        self, operation: Callable[Concatenate[sa.Connection, P], R]
    ) -> Callable[[Implementation[P, R]], Implementation[P, R]]:
        """Decorator for the in-memory form of an operation. A type checker sees that the two have one signature."""

        def register(implementation: Implementation[P, R]) -> Implementation[P, R]:
            self[operation] = implementation
            return implementation

        return register


def unwrapped(
    operation: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The operation itself and all its arguments, also those that a :func:`functools.partial` holds."""
    while isinstance(operation, functools.partial):
        args, kwargs = (*operation.args, *args), {**operation.keywords, **kwargs}
        operation = operation.func
    return operation, args, kwargs
