"""Whether the next hand-over of a lock or a slot probably finds a job."""

from __future__ import annotations

import asyncio

_SOON = 0.1
"""Seconds. If jobs are found so soon after a hand-over, others probably wait in line."""


class HandOvers:
    """What became of the last hand-overs of this worker.

    Attributes
    ----------
    is_next_expected:
        Whether the next hand-over probably finds a job.
    """

    def __init__(self) -> None:
        self.is_next_expected = False
        self._last = -_SOON
        self._has_found = False

    def note(self) -> None:
        """Note that a job of this worker has left its lock or its slot."""
        self._last = asyncio.get_running_loop().time()

    @property
    def is_recent(self) -> bool:
        """Whether the last hand-over was a moment ago."""
        return asyncio.get_running_loop().time() - self._last < _SOON

    def found_along(self, found: bool) -> None:
        """Note whether a fetch that went along with an outcome has found jobs."""
        self.is_next_expected = found
        self._has_found = self._has_found or found

    def take_found(self) -> bool:
        """Return whether such fetches have found jobs since the last call."""
        has_found, self._has_found = self._has_found, False
        return has_found
