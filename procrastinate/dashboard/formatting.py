"""Times, durations, sizes and foreign text as people read them."""

from __future__ import annotations

import datetime

from procrastinate import _durations
from procrastinate._quoting import LONGEST_TEXT, LONGEST_VALUE, quoted, quoted_lines, shortened

NONE = "\N{EN DASH}"
"""Stands for a missing value."""


def duration(seconds: float | None) -> str:
    """Return a duration such as ``2 h 5 min``, or a dash for none."""
    return NONE if seconds is None else _durations.duration(seconds)


def between(start: datetime.datetime | None, end: datetime.datetime | None) -> str:
    """Return the duration between two times."""
    return NONE if start is None or end is None else duration((end - start).total_seconds())


def ago(time: datetime.datetime | None, now: datetime.datetime) -> str:
    """Return a time relative to now, such as ``5 min ago`` or ``in 2 h``."""
    if time is None:
        return NONE
    seconds = (now - time).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{_largest_unit(seconds)} ago" if seconds > 0 else f"in {_largest_unit(-seconds)}"


def _largest_unit(seconds: float) -> str:
    whole = round(seconds)
    for size, unit in _durations.UNITS:
        if whole >= size * (1 if size == 1 else 2) or (whole >= size and whole % size == 0):
            return f"{whole // size} {unit}"
    return f"{whole} s"


def exact(time: datetime.datetime | None, *, fraction: bool = False) -> str:
    """Return a time in UTC, such as ``2026-11-28 12:00:01 UTC``."""
    if time is None:
        return NONE
    utc = time.astimezone(datetime.UTC)
    return f"{utc:%Y-%m-%d %H:%M:%S}{f'.{utc.microsecond // 1000:03}' if fraction else ''} UTC"


def size(number: int) -> str:
    """Return a size in bytes, such as ``12.5 MB``."""
    amount = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def amount(number: float) -> str:
    """Return a number of any things, such as ``1,250`` or ``0.25``."""
    return f"{number:,}" if isinstance(number, int) else f"{number:,.6g}"


def text(value: object, longest: int = LONGEST_VALUE) -> str:
    """Return foreign text as one line without control characters and without marks that reorder it."""
    return quoted(str(value), longest)


def message(value: str, longest: int = LONGEST_VALUE) -> str:
    """Return a foreign message in one line. Its lines are joined by spaces."""
    return text(" ".join(value.split()), longest)


def lines(value: str, longest: int = LONGEST_TEXT) -> str:
    """Return foreign text of several lines without control characters and without marks that reorder it."""
    return quoted_lines(shortened(value, longest))
