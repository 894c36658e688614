"""Conditions that compare columns with a value of a reader. A value that no row can have finds nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from procrastinate.core.defaults import LARGEST_ID


def is_possible(value: str | int) -> bool:
    """Return true if a row can have this text or number.

    PostgreSQL has no text with a NUL, none with half a character, and no id beyond 64 bits. Drivers raise errors of
    their own for such values, so a condition leaves them out.
    """
    if isinstance(value, int):
        return -LARGEST_ID - 1 <= value <= LARGEST_ID
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def equals(column: sa.ColumnElement[Any], value: str | int) -> sa.ColumnElement[bool]:
    """Return the condition that a column has this value."""
    return column == value if is_possible(value) else sa.false()


def only_possible(values: Iterable[str]) -> list[str]:
    """Return the values that a row can have."""
    return [value for value in values if is_possible(value)]
