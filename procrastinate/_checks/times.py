"""Aware datetimes, and a clock that tests can move."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from procrastinate._checks.zones import check_attached
from procrastinate.types import TimeDeltaParams

Clock: TypeAlias = Callable[[], datetime.datetime]
"""Function that returns the current time as an aware datetime."""

UTC_MAX = datetime.datetime.max.replace(tzinfo=datetime.UTC)


class TooFarAway(ValueError):
    """The time is outside the range of a datetime."""


def system_clock() -> datetime.datetime:
    """Return the time of the system's clock as an aware datetime in UTC."""
    return datetime.datetime.now(tz=datetime.UTC)


_clock: Clock = system_clock


def utcnow() -> datetime.datetime:
    """Return the current time as an aware datetime in UTC. Tests can move this clock."""
    return _clock()


@contextlib.contextmanager
def using_clock(clock: Clock) -> Iterator[None]:
    """Make :func:`utcnow` use another clock in all threads, for tests."""
    global _clock
    before, _clock = _clock, clock
    try:
        yield
    finally:
        _clock = before


def as_timedelta(delta: TimeDeltaParams | datetime.timedelta) -> datetime.timedelta:
    """Return a timedelta, made from its keyword arguments if ``delta`` is a dict of them."""
    return delta if isinstance(delta, datetime.timedelta) else datetime.timedelta(**delta)


def from_now(name: str, delta: TimeDeltaParams | datetime.timedelta) -> datetime.datetime:
    """Return the current time plus ``delta``, which is a timedelta or its keyword arguments.

    Raises
    ------
    TypeError, ValueError
        ``delta`` is no timedelta and not valid for one. The message names the argument.
    TooFarAway
        The result is outside the range of a datetime. The message names the argument.
    """
    try:
        return utcnow() + as_timedelta(delta)
    except OverflowError:  # infinity, too
        raise TooFarAway(f"{name}={delta!r} is too far away: a time lies between the years 1 and 9999") from None
    except TypeError as error:
        raise TypeError(
            f"{name}={delta!r}: give a timedelta or its keyword arguments, as in {name}={{'minutes': 5}} ({error})"
        ) from None
    except ValueError as error:  # NaN
        raise ValueError(f"{name}={delta!r} is no time: {error}") from None


def require_aware(name: str, value: Any) -> None:
    """Check that a value is an aware datetime, in a zone that is attached to it as it should be, or ``None``.

    Raises
    ------
    TypeError, ValueError
        The value is not a datetime, is naive, or has a pytz zone as ``tzinfo=``. The message names the argument and
        shows how to write it.
    """
    if value is None:
        return
    if not isinstance(value, datetime.datetime):
        raise TypeError(f"{name} must be an aware datetime, not {type(value).__name__}: {value!r}")
    if value.utcoffset() is None:
        raise ValueError(
            f"{name} must be an aware datetime, not {value!r}: "
            f"give it a time zone, as in {name}=datetime.datetime(..., tzinfo=datetime.timezone.utc)"
        )
    check_attached(name, value)
