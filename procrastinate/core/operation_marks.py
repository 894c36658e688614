"""What the operations have in common: how one says what it needs of a connection, or does not need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=sa.Executable)

ATOMIC = "__procrastinate_atomic__"
"""The attribute of a function that :func:`atomic` has marked. Connectors read it in each defer without a call."""
_LAGS = "__procrastinate_may_lag__"
_FINDER = "__procrastinate_finder__"
_PLAIN = "procrastinate_plain"
_PREPARED = "procrastinate_prepared"


def atomic(operation: F) -> F:
    """Mark an operation of several statements that must happen together, or not at all.

    The connector that runs it opens a transaction, or joins the user's. All other operations are
    one statement (or need no transaction), and run in autocommit if no transaction is open.
    """
    setattr(operation, ATOMIC, True)
    return operation


def is_atomic(operation: Callable[..., Any]) -> bool:
    """Return whether the operation was marked with :func:`atomic`."""
    return getattr(operation, ATOMIC, False) is True


def may_lag(operation: F) -> F:
    """Mark an operation that only reads, for people or for charts. Its answer may be some seconds old.

    An app with a replica runs it there. Do not mark an operation whose answer decides what happens to a job.
    """
    setattr(operation, _LAGS, True)
    return operation


def is_allowed_to_lag(operation: Callable[..., Any]) -> bool:
    """Return whether the operation was marked with :func:`may_lag`."""
    return getattr(operation, _LAGS, False) is True


FINDERS: list[Callable[..., int | None]] = []
"""All functions that :func:`finds_first_row_of` has marked."""


def finds_first_row_of(operation: Callable[..., Any]) -> Callable[[F], F]:
    """Mark a function that returns the id of the first row that an operation would change, or ``None``.

    The operation changes up to ``limit`` rows of its own choice, all or none, and passes over the rows of
    ``set_aside``. If the database refuses one row, the caller finds it with this function and goes around it.
    """

    def mark(find_first: F) -> F:
        setattr(operation, _FINDER, find_first)
        FINDERS.append(find_first)
        return find_first

    return mark


def finder_of(operation: Callable[..., Any]) -> Callable[..., int | None] | None:
    """Return the function that :func:`finds_first_row_of` has marked for this operation, or ``None``."""
    found: Callable[..., int | None] | None = getattr(operation, _FINDER, None)
    return found


def plain(statement: S) -> S:
    """Mark a statement that never changes, of which neither the parameters nor the rows need SQLAlchemy's types.

    A connector may write it once, and from then on give it to the driver as it is.
    """
    return statement.execution_options(**{_PLAIN: True})


def is_plain(statement: sa.Executable) -> bool:
    """Return whether the statement was marked with :func:`plain`."""
    return statement.get_execution_options().get(_PLAIN) is True


def prepared(statement: S) -> S:
    """Mark a statement as :func:`plain`, and as one that a worker may prepare.

    PostgreSQL keeps the plan of a prepared statement, and makes it without the values. Mark a statement only if a test
    in ``tests/core/test_kept_plans.py`` shows that a plan that is made on an empty table is good on a large one.
    """
    return plain(statement).execution_options(**{_PREPARED: True})


def is_prepared(statement: sa.Executable) -> bool:
    """Return whether the statement was marked with :func:`prepared`."""
    return statement.get_execution_options().get(_PREPARED) is True
