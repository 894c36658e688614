"""Who is dead, and who only looks dead: a decision from several looks, by two clocks.

One look at one clock cannot tell. The database may have stood still, or its clock may have been set, and then all
workers look silent at once. So a worker is watched: it is dead when its heartbeat has not changed for so long, by the
watcher's own clock, that it must have changed if its worker were alive.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

from procrastinate.core import LateWorker

MOMENT = 1.0
"""Seconds that a heartbeat may take longer than it should: a busy machine, a new connection."""

_SHORTEST_PAUSE = 0.05


class Pulse:
    """Notes when the database has answered, and so for how long it may have stood still. For several threads.

    Parameters
    ----------
    clock:
        The watcher's own, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._mutex = threading.Lock()
        self._last_asked = clock()
        self._longest = 0.0

    def answered(self, asked: float) -> None:
        """The database has answered what it was asked at that time: in between it was at work."""
        with self._mutex:
            self._longest = max(self._longest, self.clock() - self._last_asked)
            self._last_asked = max(self._last_asked, asked)

    def take_longest_pause(self) -> float:
        """The longest time, in seconds, in which it may have stood still since the last call."""
        with self._mutex:
            longest, self._longest = self._longest, 0.0
            return longest


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Suspect:
    """A worker that was late in each look since one that was answered at ``since``.

    The database may have stood still for ``pause`` seconds at a stretch in that time, and held up its heartbeats.
    """

    since: float
    pause: float
    seen: LateWorker

    def is_dead(self, now: float) -> bool:
        """Whether it would have beaten by now, and has been silent for its whole timeout.

        The database's clock is believed for the time before the watch began, unless it was set back. Then the watch
        has to last for the timeout.
        """
        watched = now - self.since
        if watched <= self.seen.heartbeat_interval + self.pause + MOMENT:
            return False
        return self.seen.age > self.seen.stalled_timeout or watched > self.seen.stalled_timeout + self.pause

    @property
    def is_overdue(self) -> bool:
        """Whether it is dead by the database's clock alone, or that clock cannot tell."""
        return self.seen.age > self.seen.stalled_timeout or self.seen.age < 0


class Watch:
    """Remembers which workers were late, and since when.

    Parameters
    ----------
    interval:
        Seconds between two looks, usually.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._suspects: dict[tuple[int, str], _Suspect] = {}
        self.new_with_jobs: list[LateWorker] = []
        """The workers that hold jobs and are watched since the last look."""

    def look(self, late: Sequence[LateWorker], *, asked: float, answered: float, pause: float) -> list[LateWorker]:
        """Return those of the late workers that are dead.

        Parameters
        ----------
        asked, answered:
            When the look began and ended, by the watcher's own clock.
        pause:
            Seconds for which the database may have stood still since the last look, at a stretch.
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
        """What counts of the pause before the first look: nothing, unless the database was away or stood still.

        Then the others have to find it again, as this worker had to, and are watched for their whole timeout.
        """
        if pause <= self._interval + MOMENT:
            return 0.0
        return max(0.0, min(pause, seen.stalled_timeout - seen.heartbeat_interval - MOMENT))

    def forget(self, worker_ids: Sequence[int]) -> None:
        """These workers are removed."""
        self._suspects = {key: one for key, one in self._suspects.items() if key[0] not in worker_ids}

    @property
    def pause(self) -> float:
        """Seconds until the next look. It comes sooner while a worker may be found dead before a usual one."""
        soon = [one.seen for one in self._suspects.values() if one.is_overdue or self._is_overdue_soon(one.seen)]
        return min([self._interval, *(max(_SHORTEST_PAUSE, seen.heartbeat_interval / 4) for seen in soon)])

    def _is_overdue_soon(self, seen: LateWorker) -> bool:
        return seen.age + seen.heartbeat_interval + self._interval + MOMENT > seen.stalled_timeout

    @property
    def has_jobs_to_come(self) -> bool:
        """Whether a worker that holds jobs looks dead, and has not been watched for long enough to know."""
        return any(suspect.is_overdue and suspect.seen.has_jobs for suspect in self._suspects.values())
