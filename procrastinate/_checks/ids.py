"""Ids that a program asks for, such as the last part of a URL."""

from __future__ import annotations

import numbers
from typing import Any

from procrastinate.core.defaults import LARGEST_ID

_NO_ROW = LARGEST_ID
_MOST_DIGITS = len(str(LARGEST_ID))


def asked_id(value: Any) -> int:
    """Return the id that is asked for, or one that no row has if no row can have this one.

    PostgreSQL refuses a number beyond 64 bits and a text that is no number. The error would end the transaction of the
    caller, who expects to hear that there is no such row. Integers of numpy are ids, too.

    Raises
    ------
    TypeError
        The value is neither a number nor a text.
    """
    if value is None:
        return _NO_ROW
    if isinstance(value, str):
        digits = value.removeprefix("-")
        value = int(value) if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS else _NO_ROW
    number = _read(value)
    return number if -LARGEST_ID <= number <= LARGEST_ID else _NO_ROW


def asked_place(value: Any) -> int:
    """Return the id after or before which a list goes on, or the end of all ids if it lies beyond them.

    A text that is no id stands for the end of all ids.

    Raises
    ------
    TypeError
        The value is neither a whole number nor a text.
    """
    return asked_id(value) if isinstance(value, str) else max(-LARGEST_ID, min(_read(value), LARGEST_ID))


def _read(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"An id must be a whole number, not {value!r}")
    return int(value)
