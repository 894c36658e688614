"""Rates: how many jobs may start in a window of time."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from procrastinate import core
from procrastinate._checks.amounts import read_count, read_seconds
from procrastinate._checks.times import as_timedelta
from procrastinate._durations import setting
from procrastinate.core.defaults import LARGEST_COUNT
from procrastinate.types import TimeDeltaParams

_LONGEST = 366 * 86400


@dataclasses.dataclass(frozen=True)
class Rate:
    """At most ``count`` starts in any window of time, for ``rate=`` and ``total_rate=`` of a limit.

    Parameters
    ----------
    count:
        Number of jobs that may start.
    per:
        Length of the window: a number of seconds, a :class:`datetime.timedelta` or its keyword arguments, such as
        ``{"minutes": 1}``. It is at least a millisecond and at most 366 days.

    Raises
    ------
    TypeError, ValueError
        A parameter is invalid. The message names it.
    """

    count: int
    per: float | TimeDeltaParams | datetime.timedelta

    def __post_init__(self) -> None:
        """Check the parameters, and keep ``per`` as a number of seconds."""
        count = read_count("count of Rate", self.count, at_least=1, at_most=LARGEST_COUNT)
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "per", read_period("per of Rate", self.per))

    @property
    def terms(self) -> core.RateTerms:
        """The rate as workers store it."""
        return core.RateTerms(count=self.count, seconds=read_period("per of Rate", self.per))


Rates: TypeAlias = Rate | Sequence[Rate]
"""One rate, or several that hold together."""


def read_period(name: str, period: Any) -> float:
    """Return the seconds of a number of seconds, a timedelta or its keyword arguments.

    Raises
    ------
    TypeError, ValueError
        It is none of these, is below a millisecond or above 366 days. The message names the argument.
    """
    if isinstance(period, Mapping):
        try:
            period = as_timedelta(period)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError  # an infinite time is an OverflowError
            raise kind(f"{name} is {period!r}: write seconds or a time such as {{'minutes': 1}} ({error})") from None
    if isinstance(period, datetime.timedelta):
        period = period.total_seconds()
    seconds = read_seconds(name, period)
    if not 0.001 <= seconds <= _LONGEST:
        raise ValueError(f"{name} must be at least a millisecond and at most 366 days, not {setting(seconds)}")
    return seconds


def read_rates(name: str, rates: Any) -> tuple[core.RateTerms, ...]:
    """Return the rates of an argument, which is one rate, a list of rates or ``None``.

    Raises
    ------
    TypeError
        The message names the argument.
    """
    if rates is None:
        return ()
    listed = [rates] if isinstance(rates, Rate) else list(rates) if isinstance(rates, (list, tuple)) else []
    if not listed or not all(isinstance(rate, Rate) for rate in listed):
        raise TypeError(f"{name} must be a Rate or a list of rates, such as Rate(10, per=1), not {rates!r}")
    return tuple(sorted({rate.terms for rate in listed}))
