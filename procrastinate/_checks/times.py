"""Points in time: aware datetimes."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from procrastinate.types import TimeDeltaParams

Clock: TypeAlias = Callable[[], datetime.datetime]
"""What the time is, as an aware datetime."""

UTC_MAX = datetime.datetime.max.replace(tzinfo=datetime.UTC)


class TooFarAway(ValueError):
    """A time that a datetime cannot hold."""


def system_clock() -> datetime.datetime:
    """The time now by the system's clock, aware, in UTC."""
    return datetime.datetime.now(tz=datetime.UTC)


_clock: Clock = system_clock


def utcnow() -> datetime.datetime:
    """The time now, aware, in UTC: the system's, unless a test moves the clock."""
    return _clock()


@contextlib.contextmanager
def using_clock(clock: Clock) -> Iterator[None]:
    """Let :func:`utcnow` ask another clock, in all threads: for tests."""
    global _clock
    before, _clock = _clock, clock
    try:
        yield
    finally:
        _clock = before


def from_now(name: str, delta: TimeDeltaParams) -> datetime.datetime:
    """The time in ``timedelta(**delta)``.

    Raises
    ------
    TypeError, ValueError
        There is no such ``timedelta``. It names the argument.
    TooFarAway
        It is longer than time: a datetime cannot hold it. It names the argument.
    """
    try:
        return utcnow() + datetime.timedelta(**delta)
    except OverflowError:  # infinity, too
        raise TooFarAway(f"{name}={delta!r} is too far away: a time lies between the years 1 and 9999") from None
    except TypeError as error:
        raise TypeError(
            f"{name}={delta!r}: give the keyword arguments of a timedelta, as in {name}={{'minutes': 5}} ({error})"
        ) from None
    except ValueError as error:  # NaN
        raise ValueError(f"{name}={delta!r} is no time: {error}") from None


def require_aware(name: str, value: Any) -> None:
    """Refuse a naive datetime, and what is no datetime.

    Raises
    ------
    TypeError, ValueError
        It names the argument and says how to make it aware.
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
