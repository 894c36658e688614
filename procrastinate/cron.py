"""Cron expressions: five fields, or six with the seconds last; in UTC, or by the clocks of a time zone.

Where clocks change, ticks are as vixie cron has them. A schedule that runs in every hour of every day is not affected:
its ticks stay evenly apart. Of any other, a tick at a time that is left out comes once, at the moment of the change,
and a tick at a time that occurs twice comes the first time only.
"""

from __future__ import annotations

import datetime
import functools
import math
import re
import time
from typing import Any

import croniter

_RANDOM_FIELD = re.compile(r"\br\b", re.IGNORECASE)


def check_cron(expression: str) -> None:
    """Refuse what is not a cron expression, or has no ticks on which all workers agree.

    Raises
    ------
    ValueError
        It quotes the expression and says what one looks like.
    """
    if not _is_cron(expression):
        raise ValueError(
            f"cron={expression!r} is not a cron expression: write five fields (minute hour day month weekday), "
            f"as in '*/5 * * * *', or six with the seconds last"
        )
    if _RANDOM_FIELD.search(expression):
        raise ValueError(f"cron={expression!r} is random: each worker would have ticks of its own. Write a number")
    try:
        next_tick(expression, time.time())
    except croniter.CroniterBadDateError:
        raise ValueError(f"cron={expression!r} never comes: there is no such day") from None


def _is_cron(expression: Any) -> bool:
    """A seventh field would be the year, after which the schedule has no next tick."""
    return (
        isinstance(expression, str)
        and (expression.startswith("@") or len(expression.split()) in (5, 6))
        and croniter.croniter.is_valid(expression)
    )


def next_tick(expression: str, after: float, timezone: datetime.tzinfo = datetime.UTC) -> float:
    """The first tick after a time; both in seconds since 1970."""
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
    """The last tick at or before a time; both in seconds since 1970."""
    if _is_hourly(expression):
        shift = _offset(before, timezone) % _HOUR
        return _previous(expression, before + shift) - shift
    # Just after clocks were set back, the last tick may be at a later hour than it is now.
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
    """Whether hour, day, month and weekday are all left open."""
    fields = croniter.croniter(expression).expanded
    return all(field == ["*"] for field in fields[1:5])


# What clocks show is written as seconds, too: those at which they show it in UTC.


def _next(expression: str, wall: float) -> float:
    return float(_iterator(expression, wall).get_next(float))


def _previous(expression: str, wall: float) -> float:
    # croniter looks strictly before, in whole microseconds.
    return float(_iterator(expression, wall + 1e-3).get_prev(float))


def _iterator(expression: str, at: float) -> croniter.croniter:
    return croniter.croniter(expression, datetime.datetime.fromtimestamp(at, tz=datetime.UTC))


def _offset(at: float, timezone: datetime.tzinfo) -> int:
    """By how many seconds the clocks of the time zone are before UTC at that time."""
    offset = datetime.datetime.fromtimestamp(at, tz=timezone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _moment(wall: float, timezone: datetime.tzinfo) -> float:
    """When clocks first show this time; where they never do, when they pass over it."""
    shown = datetime.datetime.fromtimestamp(wall, tz=datetime.UTC).replace(tzinfo=timezone)
    first = wall - _seconds(shown.replace(fold=0).utcoffset())
    second = wall - _seconds(shown.replace(fold=1).utcoffset())
    return first if first <= second else _change_between(second, first, timezone)


def _seconds(offset: datetime.timedelta | None) -> int:
    return 0 if offset is None else int(offset.total_seconds())


def _change_between(before: float, after: float, timezone: datetime.tzinfo) -> float:
    """The whole second at which clocks are changed, after ``before`` and not after ``after``."""
    low, high = math.floor(before), math.ceil(after)
    new_offset = _offset(high, timezone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle, timezone) == new_offset:
            high = middle
        else:
            low = middle
    return float(high)
