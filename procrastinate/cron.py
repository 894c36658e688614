"""Cron expressions in UTC or another time zone. They have five fields, or six where the last one is the seconds.

Clock changes are handled like in vixie cron. A schedule that fires every hour of every day is not affected, and its
ticks stay evenly spaced. For other schedules, a tick in a skipped hour fires once, at the change, and a tick in a
repeated hour fires the first time only.
"""

from __future__ import annotations

import datetime
import functools
import math
import re
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import croniter

_RANDOM_FIELD = re.compile(r"\br\b", re.IGNORECASE)


def check_cron(expression: str) -> None:
    """Check a cron expression.

    Raises
    ------
    ValueError
        The expression is invalid, is random, so that workers would disagree about its ticks, or never fires.
    """
    if not _is_cron(expression):
        raise ValueError(
            f"cron={expression!r} is not a cron expression: write five fields (minute hour day month weekday), "
            f"as in '*/5 * * * *', or six with the seconds last"
        )
    if _RANDOM_FIELD.search(expression):
        raise ValueError(f"cron={expression!r} is random: each worker would have different ticks. Write a number")
    import croniter  # only periodic tasks need it

    try:
        next_tick(expression, time.time())
    except croniter.CroniterBadDateError:
        raise ValueError(f"cron={expression!r} never fires: there is no such day") from None


def _is_cron(expression: Any) -> bool:
    """Return true for a valid expression. Refuse a seventh field, the year, as such a schedule runs out of ticks."""
    import croniter

    return (
        isinstance(expression, str)
        and (expression.startswith("@") or len(expression.split()) in (5, 6))
        and croniter.croniter.is_valid(expression)
    )


def next_tick(expression: str, after: float, timezone: datetime.tzinfo = datetime.UTC) -> float:
    """Return the first tick after a time. Both are in seconds since 1970."""
    if _is_hourly(expression):
        shift = _offset(after, timezone) % _HOUR
        return _next(expression, after + shift) - shift
    wall = after + _offset(after, timezone)
    while True:
        wall = _next(expression, wall)
        tick = _moment(wall, timezone)
        if tick > after:
            return tick


def previous_tick(expression: str, before: float, timezone: datetime.tzinfo = datetime.UTC) -> float:
    """Return the last tick at or before a time. Both are in seconds since 1970."""
    if _is_hourly(expression):
        shift = _offset(before, timezone) % _HOUR
        return _previous(expression, before + shift) - shift
    # Just after clocks go back, the last tick may have a later wall time than now.
    wall = before + max(_offset(before, timezone), _offset(before - _DAY, timezone))
    while True:
        wall = _previous(expression, wall)
        tick = _moment(wall, timezone)
        if tick <= before:
            return tick
        wall -= 1


_HOUR = 3600
_DAY = 24 * _HOUR


@functools.cache
def _is_hourly(expression: str) -> bool:
    """Return true if hour, day, month and weekday are all ``*``."""
    import croniter

    fields = croniter.croniter(expression).expanded
    return all(field == ["*"] for field in fields[1:5])


# A wall time is represented as the timestamp at which clocks in UTC show it.


def _next(expression: str, wall: float) -> float:
    return float(_iterator(expression, wall).get_next(float))


def _previous(expression: str, wall: float) -> float:
    # croniter looks strictly before, in whole microseconds.
    return float(_iterator(expression, wall + 1e-3).get_prev(float))


def _iterator(expression: str, at: float) -> croniter.croniter:
    import croniter

    return croniter.croniter(expression, datetime.datetime.fromtimestamp(at, tz=datetime.UTC))


def _offset(at: float, timezone: datetime.tzinfo) -> int:
    """Return the offset of the time zone from UTC at a timestamp, in seconds. It is positive east of UTC."""
    offset = datetime.datetime.fromtimestamp(at, tz=timezone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _moment(wall: float, timezone: datetime.tzinfo) -> float:
    """Return the timestamp at which clocks first show this wall time, or at which they skip it."""
    shown = datetime.datetime.fromtimestamp(wall, tz=datetime.UTC).replace(tzinfo=timezone)
    first = wall - _seconds(shown.replace(fold=0).utcoffset())
    second = wall - _seconds(shown.replace(fold=1).utcoffset())
    return first if first <= second else _change_between(second, first, timezone)


def _seconds(offset: datetime.timedelta | None) -> int:
    return 0 if offset is None else int(offset.total_seconds())


def _change_between(before: float, after: float, timezone: datetime.tzinfo) -> float:
    """Return the timestamp of the clock change after ``before`` and at or before ``after``, in whole seconds."""
    low, high = math.floor(before), math.ceil(after)
    new_offset = _offset(high, timezone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle, timezone) == new_offset:
            high = middle
        else:
            low = middle
    return float(high)
