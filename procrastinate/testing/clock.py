"""The clock of a test, which the test moves."""

from __future__ import annotations

import datetime
from typing import Any

from procrastinate.timing import UTC_MAX, require_aware, system_clock


class Clock:
    """The system's clock, so many hours ahead; or one that stands still.

    A library that replaces Python's own clock (freezegun, time-machine) moves this one with it.
    """

    def __init__(self) -> None:
        self._ahead = datetime.timedelta()
        self._frozen_at: datetime.datetime | None = None

    def now(self) -> datetime.datetime:
        """What the time is, in UTC."""
        return self._frozen_at or plus(system_clock(), self._ahead)

    def advance(self, **delta: Any) -> datetime.datetime:
        """Move it on by ``timedelta(**delta)``, and return what the time is then.

        Raises
        ------
        ValueError
            The clock would go back.
        """
        step = datetime.timedelta(**delta)
        if step < datetime.timedelta():
            raise ValueError(f"advance({_arguments(delta)}) would turn the clock back: freeze(at) can")
        self.move_to(plus(self.now(), step))
        return self.now()

    def freeze(self, at: datetime.datetime | None = None) -> datetime.datetime:
        """Let it stand still: at an aware datetime, or now."""
        require_aware("at", at)
        self._frozen_at = at or self.now()
        return self._frozen_at

    def move_to(self, at: datetime.datetime) -> None:
        """Set it: a clock that stands still stands there, any other goes on from there."""
        if self._frozen_at is not None:
            self._frozen_at = at
        else:
            self._ahead = at - system_clock()


def plus(time: datetime.datetime, delta: datetime.timedelta) -> datetime.datetime:
    """The sum; the last time that a datetime can hold where it is later than that."""
    try:
        return time + delta
    except OverflowError:
        return UTC_MAX


def _arguments(delta: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in delta.items())
