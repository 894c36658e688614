"""Jobs of tasks that this worker does not know. In a rolling deploy, workers of the new release know them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

_SHORTEST_PAUSE = 5.0
_LONGEST_PAUSE = 300.0
_SILENCE = 2 * _LONGEST_PAUSE
"""Seconds without a job of a name after which a newer job begins another occasion."""
_MOST_NAMES = 1000
"""Maximum number of remembered names.

A name is text from a row, chosen by any role that may insert jobs. Memory must not grow with it.
"""


@dataclasses.dataclass(frozen=True)
class Leave:
    """Decision to leave the job to another worker.

    Attributes
    ----------
    pause:
        Seconds until the job may start there.
    is_first:
        True for the first job of an occasion.
    """

    pause: float
    is_first: bool


@dataclasses.dataclass
class _Occasion:
    """The time in which jobs of one unknown name come.

    Attributes
    ----------
    since, last:
        When the first of them came, and the last one.
    newest:
        The largest id of a job until now.
    """

    since: float
    last: float
    newest: int


class UnknownTasks:
    """Decide how long the jobs of an unknown task wait for a worker that knows it.

    The pause equals the time for which the name has been unknown here, at least 5 seconds and at most 5 minutes. So a
    worker of the new release soon gets the job, and the workers of the old release do not spin.

    The time counts from the first job of that name in this worker, and not for each job, so nothing needs storage. The
    time starts again with a newer job after ten minutes without any: a release that is rolled back and comes again
    later finds the same old workers. So a misspelt name costs the wait once while its jobs keep coming, and again after
    each such silence. An older job does not start the time again. In a large fleet it seldom comes to the same worker,
    and would never fail.

    Parameters
    ----------
    timeout:
        Seconds after which jobs of an unknown name fail. With 0 they fail at once.
    clock:
        Returns monotonic time in seconds.
    """

    def __init__(self, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._occasions: dict[str, _Occasion] = {}

    def meet(self, task_name: str, job_id: int) -> Leave | None:
        """Return how long a job of that name waits, or ``None`` if it fails."""
        now = self._clock()
        occasion = self._occasions.get(task_name)
        is_first = occasion is None or (now - occasion.last > _SILENCE and job_id > occasion.newest)
        if occasion is None or is_first:
            if occasion is None and not self._has_room(now):
                return None
            occasion = self._occasions[task_name] = _Occasion(since=now, last=now, newest=job_id)
        occasion.last, occasion.newest = now, max(occasion.newest, job_id)
        unknown_for = now - occasion.since
        if unknown_for >= self._timeout:
            return None
        return Leave(pause=min(max(unknown_for, _SHORTEST_PAUSE), _LONGEST_PAUSE), is_first=is_first)

    def _has_room(self, now: float) -> bool:
        """Return true if another name can be remembered, if need be in the place of those that no longer come."""
        if len(self._occasions) >= _MOST_NAMES:
            oldest = now - self._timeout - _SILENCE
            self._occasions = {name: one for name, one in self._occasions.items() if one.last > oldest}
        return len(self._occasions) < _MOST_NAMES
