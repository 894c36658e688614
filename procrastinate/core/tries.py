"""Decisions that take several operations, written once for sync and async code.

A function of such a decision is a generator. It yields the next operation, and is sent the result of it. Each operation
keeps its own transaction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeAlias, TypeVar

R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Try:
    """An operation to run."""

    operation: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Tries: TypeAlias = Generator[Try, Any, R]
"""Yields what to run. It is sent the result, or the error is thrown into it."""
