"""Runs of jobs, added up in memory until the heartbeat writes them."""

from __future__ import annotations

import threading

from procrastinate.core import Durations, Runs
from procrastinate.jobs import Status
from procrastinate.worker.run.outcome import Outcome

_MOST_KEYS = 500
"""Maximum number of combinations of queue, task and outcome. The tasks of any further ones count together."""
_OTHERS = "(other tasks)"
_MOST_SAMPLES = 100
_SAMPLES_PER_KEY = 5
RETRIED = "retried"


class _Collected:
    def __init__(self) -> None:
        self.run = Durations()
        self.samples: list[int] = []


class RunStatistics:
    """Number and duration of runs by queue, task and outcome. The event loop adds, and the heartbeat's thread takes."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._collected: dict[tuple[str, str, Status], _Collected] = {}
        self._samples = 0

    def add(self, outcome: Outcome, lasted: float) -> None:
        """Add a run that lasted that many seconds."""
        job = outcome.job
        with self._mutex:
            collected = self._collected.get((job.queue, job.task_name, outcome.status))
            if collected is None:
                collected = self._collect(job.queue, job.task_name, outcome.status)
            collected.run.add(lasted)
            if len(collected.samples) < _SAMPLES_PER_KEY and self._samples < _MOST_SAMPLES:
                collected.samples.append(outcome.job_id)
                self._samples += 1

    def _collect(self, queue: str, task: str, status: Status) -> _Collected:
        key = (queue, task if len(self._collected) < _MOST_KEYS else _OTHERS, status)
        return self._collected.setdefault(key, _Collected())

    def take(self) -> list[Runs]:
        """Return what was added since the last call."""
        with self._mutex:
            collected, self._collected, self._samples = self._collected, {}, 0
        return [
            Runs(queue_name=queue, task_name=task, outcome=_word(status), run=one.run, samples=tuple(one.samples))
            for (queue, task, status), one in collected.items()
        ]


def _word(status: Status) -> str:
    return RETRIED if status is Status.TODO else status.value
