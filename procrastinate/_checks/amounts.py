"""Checks for numbers in options: seconds and counts. Error messages name the argument."""

from __future__ import annotations

import datetime
import decimal
import math
import numbers
import operator
from typing import Any

from procrastinate.core.defaults import LONGEST


def read_seconds(name: str, value: Any, *, may_be_zero: bool = False) -> float:
    """Return a number of seconds as a float, at most :data:`LONGEST`.

    Parameters
    ----------
    name:
        Name of the argument, for error messages.
    value:
        Any real number: an int, a float, a ``Decimal`` or a numpy number.
    may_be_zero:
        If true, 0 is valid.

    Raises
    ------
    TypeError
        The value is not a number: a string, a timedelta, a bool.
    ValueError
        The value is too small, or NaN.
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
    """Do the same as :func:`read_seconds`. ``None`` means no bound and is returned unchanged."""
    return None if value is None else read_seconds(name, value, may_be_zero=may_be_zero)


def read_finite(name: str, value: Any) -> int | float:
    """Return a finite number as an int or a float.

    Raises
    ------
    TypeError, ValueError
        The value is not a number, or is not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, decimal.Decimal)):
        hint = ": write .total_seconds()" if isinstance(value, datetime.timedelta) else ""
        raise TypeError(f"{name} must be a number, not {value!r}{hint}")
    if isinstance(value, numbers.Integral):
        return int(value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    return float(value)


def read_count(name: str, value: Any, *, at_least: int, at_most: int | None = None, of: str = "") -> int:
    """Return a whole number as an int. Integers of numpy are valid, too.

    Parameters
    ----------
    at_least:
        The smallest valid number.
    at_most:
        The largest valid number. ``None`` means any.
    of:
        The unit for error messages, such as "retries".

    Raises
    ------
    TypeError, ValueError
        The value is not a whole number (a bool is not one), or is too small or too large.
    """
    what = f" {of}" if of else ""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        wanted = f"a whole number of{what}" if of else "a whole number"
        raise TypeError(f"{name} must be {wanted}, not {value!r}")
    number = operator.index(value)
    if number < at_least:
        raise ValueError(f"{name} must be at least {at_least}{what}, not {number}")
    if at_most is not None and number > at_most:
        raise ValueError(f"{name} must be at most {at_most}{what}, not {number}")
    return number
