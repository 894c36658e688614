"""Where the next fetch goes on, so that it does not walk over all that was fetched before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from procrastinate.core import Rank
from procrastinate.jobs import Job

LOOK_INTERVAL = 0.1
"""Seconds until ready jobs that come before the place are looked for, at the latest: a retry, say, or a job that was
committed after one with a higher id."""
_LARGEST_PART = 10
"""A look from the start may take a tenth of the time. While a transaction is open, vacuum cannot clean, and such a look
walks over the dead entries of all jobs that were fetched since."""


class FetchCursor:
    """The rank of the last job of a fetch that was full, for a while.

    Parameters
    ----------
    is_kept:
        False for a worker whose fetches cannot go on: each looks from the start.
    clock:
        Seconds.
    """

    def __init__(self, *, is_kept: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._is_kept = is_kept
        self._clock = clock
        self._rank: Rank | None = None
        self._look_at = 0.0

    @property
    def after(self) -> Rank | None:
        """Where to go on; ``None`` for the start."""
        return self._rank if self._clock() < self._look_at else None

    def start_over(self) -> None:
        """Look from the start at the next fetch."""
        self._rank = None

    def fetched(self, jobs: Sequence[Job], *, wanted: int, after: Rank | None, seconds: float) -> None:
        """Take note that a fetch has taken these jobs.

        Parameters
        ----------
        wanted:
            How many it could take.
        after:
            Where it went on.
        seconds:
            How long it took.
        """
        if after is None:
            self._look_at = self._clock() + max(LOOK_INTERVAL, seconds * _LARGEST_PART)
        last = jobs[-1] if self._is_kept and jobs and len(jobs) == wanted else None
        self._rank = None if last is None or last.id is None else Rank(priority=last.priority, id=last.id)
