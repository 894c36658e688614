"""The clock of a test, which the test can move."""

from __future__ import annotations

import datetime
from typing import Any

from procrastinate._checks.times import UTC_MAX, require_aware, system_clock


class Clock:
    """The system's clock with an offset, or a frozen clock.

    A library that replaces Python's clock (freezegun, time-machine) moves this clock too.
    """

    def __init__(self) -> None:
        self._ahead = datetime.timedelta()
        self._frozen_at: datetime.datetime | None = None

    def now(self) -> datetime.datetime:
        """Return the current time in UTC."""
        return self._frozen_at or plus(system_clock(), self._ahead)

    def advance(self, **delta: Any) -> datetime.datetime:
        """Move the clock forward by ``timedelta(**delta)`` and return the new time.

        Raises
        ------
        ValueError
            The clock would move back.
        """
        step = datetime.timedelta(**delta)
        if step < datetime.timedelta():
            raise ValueError(f"advance({_arguments(delta)}) would turn the clock back: use freeze(at)")
        self.move_to(plus(self.now(), step))
        return self.now()

    def freeze(self, at: datetime.datetime | None = None) -> datetime.datetime:
        """Stop the clock at an aware datetime, or now, and return that time."""
        require_aware("at", at)
        self._frozen_at = at or self.now()
        return self._frozen_at

    def move_to(self, at: datetime.datetime) -> None:
        """Set the clock. A frozen clock stays at the new time, any other continues from there."""
        if self._frozen_at is not None:
            self._frozen_at = at
        else:
            self._ahead = at - system_clock()


def plus(time: datetime.datetime, delta: datetime.timedelta) -> datetime.datetime:
    """Return the sum, limited to the latest datetime."""
    try:
        return time + delta
    except OverflowError:
        return UTC_MAX


def _arguments(delta: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in delta.items())
