"""Numbers that users give: seconds and counts. They are checked where they are written, by the argument's name."""

from __future__ import annotations

import datetime
import decimal
import math
import numbers
import operator
from typing import Any

LONGEST = 3_155_760_000.0
"""A hundred years, in seconds. Infinity counts as this: it fits into every clock, event loop and SQL interval."""


def read_seconds(name: str, value: Any, *, may_be_zero: bool = False) -> float:
    """The number of seconds that was given, at most :data:`LONGEST`.

    Parameters
    ----------
    name:
        The argument, for the message.
    value:
        Any real number: an int, a float, a Decimal, one of numpy's.
    may_be_zero:
        Whether 0 is allowed.

    Raises
    ------
    TypeError
        It is no number: a text, a timedelta, True.
    ValueError
        It is too small, or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, decimal.Decimal)):
        hint = ": write .total_seconds()" if isinstance(value, datetime.timedelta) else ""
        raise TypeError(f"{name} must be a number of seconds, not {value!r}{hint}")
    is_nan = value != value
    if is_nan or value < 0 or (value == 0 and not may_be_zero):
        wanted = "0 seconds or more" if may_be_zero else "more than 0 seconds"
        raise ValueError(f"{name} must be {wanted}, not {value!r}")
    return float(min(value, LONGEST))


def read_optional_seconds(name: str, value: Any, *, may_be_zero: bool = False) -> float | None:
    """As :func:`read_seconds`; ``None`` is no bound, and passes."""
    return None if value is None else read_seconds(name, value, may_be_zero=may_be_zero)


def read_finite(name: str, value: Any) -> int | float:
    """The number that was given, if it is finite. Whole numbers stay whole.

    Raises
    ------
    TypeError, ValueError
        It is no number, or no finite one.
    """
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, decimal.Decimal)):
        hint = ": write .total_seconds()" if isinstance(value, datetime.timedelta) else ""
        raise TypeError(f"{name} must be a number, not {value!r}{hint}")
    if isinstance(value, numbers.Integral):
        return int(value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    return float(value)


def read_count(name: str, value: Any, *, at_least: int, of: str = "") -> int:
    """The whole number that was given: an int, or one of numpy's.

    Parameters
    ----------
    of:
        What is counted, for the message: "retries".

    Raises
    ------
    TypeError, ValueError
        It is no whole number (True is none), or too small.
    """
    what = f" {of}" if of else ""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        wanted = f"a whole number of{what}" if of else "a whole number"
        raise TypeError(f"{name} must be {wanted}, not {value!r}")
    number = operator.index(value)
    if number < at_least:
        raise ValueError(f"{name} must be at least {at_least}{what}, not {number}")
    return number
