"""Jobs of tasks that this worker does not know. In a rolling deploy, workers of the new release know them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

_SHORTEST_PAUSE = 5.0
_LONGEST_PAUSE = 300.0
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
        True the first time that the worker meets the name.
    """

    pause: float
    is_first: bool


class UnknownTasks:
    """Decide how long the jobs of an unknown task wait for a worker that knows it.

    The pause equals the time for which the name has been unknown here, at least 5 seconds and at most 5 minutes. So a
    worker of the new release soon gets the job, and the workers of the old release do not spin.

    The time counts from the first job of that name in this worker, and not for each job. So nothing needs storage, and
    a misspelt name costs the wait once.

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
        self._first_met: dict[str, float] = {}

    def meet(self, task_name: str) -> Leave | None:
        """Return how long a job of that name waits, or ``None`` if it fails."""
        now = self._clock()
        is_first = task_name not in self._first_met
        if is_first and len(self._first_met) >= _MOST_NAMES:
            return None
        unknown_for = now - self._first_met.setdefault(task_name, now)
        if unknown_for >= self._timeout:
            return None
        return Leave(pause=min(max(unknown_for, _SHORTEST_PAUSE), _LONGEST_PAUSE), is_first=is_first)
