"""How many jobs to fetch ahead of the free slots: as many as are done in a moment, and none where jobs take long."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from procrastinate.jobs import Job

WINDOW = 0.02
"""Seconds of work to fetch ahead. A job of 100 us costs more to fetch by itself than to run: with default options, and
jobs that do nothing, a worker does 9 times as many so."""
LONGEST_WAIT = 0.1
"""Seconds that a job waits in the worker before it goes back. Five windows: a process that has to share its core is
often that much slower than it has just been."""
MOST = 500
_SAMPLES = 5
"""Jobs to see before any is fetched ahead."""
_RISE, _FALL = 0.5, 0.1
"""How much one job changes the expectation: one that took longer a lot, one that took less a little."""


class Prefetch:
    """The jobs that were fetched ahead, in the order in which they start, and the decision how many to fetch.

    It begins with one, doubles while jobs are short, and begins again once jobs had to be given back. What it expects
    of the next jobs is what the last ones took.

    A job that waits here leaves once. The event loop starts it, or another thread releases it while the loop is
    blocked. A mutex decides which.

    Parameters
    ----------
    slots:
        How many jobs run at once.
    clock:
        Seconds.
    """

    def __init__(self, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = slots
        self._clock = clock
        self._mutex = threading.Lock()
        self._kept: deque[_Kept] = deque()
        self._starting: Job | None = None
        """The job that was taken last to be started. The caller keeps it when the next one is taken."""
        self._leaving: deque[set[int]] = deque()
        """The jobs of each release of another thread that has begun and not ended."""
        self._window = 0
        self._samples = 0
        self._expected = 0.0
        self._last_end = -WINDOW
        self.suspects = 0
        """Number of running jobs that ran before. If one of them took its worker down before, no unstarted job should
        go down with it and be counted as rescued, again and again. So no job waits while one of them runs."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def ids(self) -> set[int]:
        """The jobs that wait here, the one that starts just now, and those that another thread releases. In any
        thread.
        """
        with self._mutex:
            starting = [] if self._starting is None else [self._starting]
            return _ids([*starting, *(kept.job for kept in self._kept)]).union(*self._leaving)

    @property
    def is_leaving(self) -> bool:
        """Whether another thread releases jobs, from :meth:`begin_release` to :meth:`end_release`."""
        return bool(self._leaving)

    @property
    def longest_wait(self) -> float:
        """For how many seconds one of them has waited."""
        with self._mutex:
            return self._clock() - min((kept.since for kept in self._kept), default=self._clock())

    def room(self) -> int:
        """Return how many jobs to fetch now, to wait for a slot. It is none while half of them are still there."""
        window = self._current_window()
        return window - len(self._kept) if len(self._kept) <= window // 2 else 0

    def _current_window(self) -> int:
        if self._clock() - self._last_end > WINDOW:
            return 0  # no job has ended for so long: those that run are not short
        in_time = int(WINDOW / self._expected * self._slots) if self._expected > 0 else MOST
        return min(self._window, in_time)

    def ended(self, lasted: float) -> None:
        """Note that a job has run for ``lasted`` seconds."""
        self._last_end = self._clock()
        weight = _RISE if lasted > self._expected else _FALL
        self._expected += weight * (lasted - self._expected)
        self._samples += 1
        if self._samples == _SAMPLES:
            self._window = 1

    def keep(self, jobs: Iterable[Job]) -> None:
        """Keep jobs that were fetched just now. One that outranks those that were here starts before them."""
        now = self._clock()
        with self._mutex:
            kept = [*self._kept, *(_Kept(job, now) for job in jobs)]
            self._kept = deque(sorted(kept, key=_rank))
            self._window = min(self._window * 2, MOST)

    def next(self) -> Job | None:
        """Take the job that starts next; ``None`` where there is none, or it has waited for too long."""
        with self._mutex:
            if not self._kept or self._clock() - self._kept[0].since > LONGEST_WAIT:
                self._starting = None
                return None
            self._starting = self._kept.popleft().job
            return self._starting

    def take(self, job_id: int) -> Job | None:
        """Take this job, if it waits here."""
        with self._mutex:
            for kept in self._kept:
                if kept.job.id == job_id:
                    self._kept.remove(kept)
                    return kept.job
            return None

    def take_all(self) -> list[Job]:
        """Take all jobs, not to be started: there were too many."""
        with self._mutex:
            return self._take_all()

    def take_of(self, queues: Collection[str]) -> list[Job]:
        """Take the jobs of these queues, not to be started."""
        with self._mutex:
            taken = [kept.job for kept in self._kept if kept.job.queue in queues]
            self._kept = deque(kept for kept in self._kept if kept.job.queue not in queues)
            return taken

    def begin_release(self) -> list[Job]:
        """Take all jobs, in another thread, to release them. They stay among :attr:`ids` until :meth:`end_release`."""
        with self._mutex:
            jobs = self._take_all()
            self._leaving.append(_ids(jobs))
            return jobs

    def extend_release(self, job_ids: Iterable[int]) -> None:
        """Count these jobs among those of the release that has begun last. They do not wait here."""
        with self._mutex:
            self._leaving[-1].update(job_ids)

    def end_release(self) -> None:
        """Forget the jobs of the release that has begun first."""
        with self._mutex:
            self._leaving.popleft()

    def _take_all(self) -> list[Job]:
        jobs = [kept.job for kept in self._kept]
        self._kept.clear()
        self._window = self._samples = 0
        return jobs


class _Kept(NamedTuple):
    job: Job
    since: float


def _ids(jobs: Iterable[Job]) -> set[int]:
    return {job.id for job in jobs if job.id is not None}


def _rank(kept: _Kept) -> tuple[int, int]:
    return -kept.job.priority, kept.job.id or 0
