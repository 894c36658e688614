"""Wait times between attempts after a database failure."""

from __future__ import annotations

import logging
import random

from procrastinate.exceptions import DatabaseUnavailable

_FIRST = 0.1
_LONGEST = 10.0
LONGEST_IN_OUTAGE = 1.5
"""Seconds. So jobs go on soon after an outage, however long that was. A failed connection costs little."""
_TELL_EVERY = 10.0
"""Seconds between two warnings of the same error."""


class Backoff:
    """Doubling wait times. Each is shortened at random by up to half, so that workers do not retry in step.

    Parameters
    ----------
    first, longest:
        The first and the longest wait, in seconds.
    in_outage:
        The longest wait in an outage of the database. The default is :data:`LONGEST_IN_OUTAGE`.
    """

    def __init__(self, first: float = _FIRST, longest: float = _LONGEST, in_outage: float | None = None) -> None:
        self._first = first
        self._longest = longest
        self._in_outage = in_outage
        self._next = first

    def wait_after(self, error: BaseException) -> float:
        """Return the seconds to wait after an error of the database. Jobs wait for what is tried again."""
        return self.next_wait(is_outage=isinstance(error, DatabaseUnavailable))

    def next_wait(self, *, is_outage: bool = False) -> float:
        """Return the seconds to wait now. In an outage of the database, the waits grow less."""
        in_outage = LONGEST_IN_OUTAGE if self._in_outage is None else self._in_outage
        longest = min(self._longest, in_outage) if is_outage else self._longest
        wait = min(self._next, longest) * random.uniform(0.5, 1.0)
        self._next = min(self._next * 2, longest)
        return wait

    def reset(self) -> None:
        """Start again from the shortest wait, after a success."""
        self._next = self._first


class Repeats:
    """Tells how loud an error is that comes at each attempt. An outage may last for hours."""

    def __init__(self) -> None:
        self._told: tuple[str, float] = ("", -_TELL_EVERY)

    def level(self, error: BaseException, now: float) -> int:
        """Return the level of the record: a warning for another error, and now and then for the same one."""
        text = str(error)
        if self._told[0] == text and now - self._told[1] < _TELL_EVERY:
            return logging.DEBUG
        self._told = (text, now)
        return logging.WARNING
