"""What the operations have in common: how one says that it needs a transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__procrastinate_atomic__"


def atomic(operation: F) -> F:
    """Mark an operation of several statements that must happen together, or not at all.

    The connector that runs it opens a transaction, or joins the user's. All other operations are
    one statement (or need no transaction), and run in autocommit where nobody has opened one.
    """
    setattr(operation, _MARK, True)
    return operation


def is_atomic(operation: Callable[..., Any]) -> bool:
    """Whether the operation was marked with :func:`atomic`."""
    return getattr(operation, _MARK, False) is True
