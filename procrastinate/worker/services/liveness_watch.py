"""Decide which workers are dead, from several checks by two clocks.

One check by one clock is not enough: if the database stood still or its clock was set, all workers look silent at once.
So a worker is watched. It is dead if its heartbeat has not changed for a time, by the watcher's own clock, in which the
heartbeat of a live worker would have changed.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

from procrastinate.core import LateWorker

MOMENT = 1.0
"""Seconds of tolerance for a late heartbeat, for a busy machine or a new connection."""

_SHORTEST_PAUSE = 0.05

SOON = 2.0
"""Seconds. A one-shot worker waits for the jobs of a late worker that will look dead within this time. After a second
signal a worker looks dead two seconds after its last heartbeat.
"""


class Pulse:
    """Record of the database's answers, which shows how long the database may have stood still. Thread-safe.

    Parameters
    ----------
    clock:
        The watcher's own clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._mutex = threading.Lock()
        self._last_asked = clock()
        self._longest = 0.0

    def answered(self, asked: float) -> None:
        """Record an answer to a question asked at that time. The database was at work in between."""
        with self._mutex:
            self._longest = max(self._longest, self.clock() - self._last_asked)
            self._last_asked = max(self._last_asked, asked)

    def take_longest_pause(self) -> float:
        """Return the longest time in seconds for which the database may have stood still since the last call."""
        with self._mutex:
            longest, self._longest = self._longest, 0.0
            return longest


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Suspect:
    """A worker that was late in each check since ``since``.

    The database may have stood still, and held up heartbeats, for up to ``pause`` seconds at a stretch in that time.
    """

    since: float
    pause: float
    seen: LateWorker

    def is_dead(self, now: float) -> bool:
        """Return True if a heartbeat is overdue and the worker has been silent for its whole timeout.

        For the time before the watch, the database's clock counts, unless that clock was set back. Then the watch
        itself must last for the timeout.
        """
        watched = now - self.since
        if watched <= self.seen.heartbeat_interval + self.pause + MOMENT:
            return False
        return self.seen.age > self.seen.stalled_timeout or watched > self.seen.stalled_timeout + self.pause

    @property
    def is_overdue(self) -> bool:
        """True if the worker is dead by the database's clock alone, or that clock cannot tell."""
        return self.is_overdue_within(0.0)

    def is_overdue_within(self, seconds: float) -> bool:
        """Return True if the worker is overdue after this many seconds without a heartbeat."""
        return self.seen.age + seconds > self.seen.stalled_timeout or self.seen.age < 0


class Watch:
    """Record of late workers, each with the time since which it has been late.

    Parameters
    ----------
    interval:
        Usual seconds between two checks.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._suspects: dict[tuple[int, str], _Suspect] = {}
        self.new_with_jobs: list[LateWorker] = []
        """Workers with jobs that the last check has added to the watch."""

    def look(self, late: Sequence[LateWorker], *, asked: float, answered: float, pause: float) -> list[LateWorker]:
        """Return the dead ones among the late workers.

        Parameters
        ----------
        asked, answered:
            Start and end of the check by the watcher's own clock.
        pause:
            Seconds for which the database may have stood still at a stretch since the last check.
        """
        before = self._suspects
        self._suspects = {}
        self.new_with_jobs = [seen for seen in late if seen.has_jobs and (seen.id, seen.heartbeat) not in before]
        for seen in late:
            key = seen.id, seen.heartbeat
            known = before.get(key)
            self._suspects[key] = (
                _Suspect(since=answered, pause=self._pause_before(seen, pause), seen=seen)
                if known is None
                else _Suspect(since=known.since, pause=max(known.pause, pause), seen=seen)
            )
        return [suspect.seen for suspect in self._suspects.values() if suspect.is_dead(asked)]

    def _pause_before(self, seen: LateWorker, pause: float) -> float:
        """Return the part of the pause before the first check that counts for a worker.

        It is 0 unless the database was unreachable or stood still. Then other workers must find the database again, as
        this one had to, and the watch lasts for their whole timeout.
        """
        if pause <= self._interval + MOMENT:
            return 0.0
        return max(0.0, min(pause, seen.stalled_timeout - seen.heartbeat_interval - MOMENT))

    def forget(self, worker_ids: Sequence[int]) -> None:
        """Forget removed workers."""
        self._suspects = {key: one for key, one in self._suspects.items() if key[0] not in worker_ids}

    @property
    def pause(self) -> float:
        """Seconds until the next check. A check comes sooner if a usual one would find a dead worker late."""
        soon = [one.seen for one in self._suspects.values() if one.is_overdue or self._is_overdue_soon(one.seen)]
        return min([self._interval, *(max(_SHORTEST_PAUSE, seen.heartbeat_interval / 4) for seen in soon)])

    def _is_overdue_soon(self, seen: LateWorker) -> bool:
        return seen.age + seen.heartbeat_interval + self._interval + MOMENT > seen.stalled_timeout

    @property
    def has_jobs_to_come(self) -> bool:
        """True if a worker with jobs looks dead, or soon will, but the watch is too short to tell."""
        return any(suspect.seen.has_jobs and suspect.is_overdue_within(SOON) for suspect in self._suspects.values())
