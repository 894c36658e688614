"""Release jobs that were fetched and not started."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Collection, Iterable

from procrastinate import core
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.worker.backoff import Backoff
from procrastinate.worker.fetch.noticeboard import Noticeboard

_LOCKED_PAUSE = 0.02
"""Seconds between the first two tries. All take a third of a second at most, and the worker fetches nothing then."""
_TRIES = 5
_GATHERING = 0.002
"""Seconds that a job which waits elsewhere waits for others. The jobs of an unknown task come by thousands."""


class Releaser:
    """Releases jobs in the background.

    A row that another session has locked is tried again, because most locks last a moment. A release whose answer is
    lost is not tried again. The jobs may wait, or another worker may have them. The fetch loop then reconciles with the
    database, which also finds rows that stay locked.

    Parameters
    ----------
    board:
        Where it posts the end of the last release, and a doubt if this worker may still hold jobs of a release that has
        ended. ``ids`` no longer contains them then.
    """

    def __init__(
        self,
        manager: JobManager,
        board: Noticeboard,
        logger: logging.Logger,
    ) -> None:
        self._manager = manager
        self._board = board
        self._logger = logger
        self._under_way: dict[asyncio.Task[bool], set[int]] = {}
        self._gathered: dict[int, list[Job]] = {}

    @property
    def is_under_way(self) -> bool:
        """True while a release has not ended."""
        return bool(self._under_way or self._gathered)

    @property
    def ids(self) -> set[int]:
        """The ids of jobs whose release has not ended. Callable from any thread."""
        gathered = {job.id for jobs in list(self._gathered.values()) for job in list(jobs) if job.id is not None}
        return gathered.union(*list(self._under_way.values()))

    def release(self, jobs: Iterable[Job], delay: float | None = None) -> None:
        """Start to release these jobs, each for the worker id that fetched it.

        Parameters
        ----------
        delay:
            Seconds until the jobs may start. With ``None`` they are as ready as before the fetch.
        """
        for worker_id, its_jobs in _by_worker(jobs).items():
            task = asyncio.create_task(self._release(worker_id, its_jobs, delay), name="give back jobs")
            self._under_way[task] = {job.id for job in its_jobs if job.id is not None}
            task.add_done_callback(self._forget)

    def release_later(self, job: Job, delay: float) -> None:
        """Release this job soon, together with the next ones of the same delay.

        Each statement of a release costs about the same for one job and for a hundred. With one for each job, 20,000
        jobs of an unknown task held up all others for two minutes.

        Parameters
        ----------
        delay:
            Seconds until the job may start, which are rounded up.
        """
        if not self._gathered:
            asyncio.get_running_loop().call_later(_GATHERING, self._release_gathered)
        self._gathered.setdefault(math.ceil(delay), []).append(job)

    def _release_gathered(self) -> None:
        # A thread that reads the ids must find each job, so it leaves this set when it is in the other one.
        try:
            for delay, jobs in self._gathered.items():
                self.release(jobs, delay=delay)
        except Exception as error:  # of the program's factory of asyncio tasks
            self._log_failure(_as_fetched(jobs), error)
            self._board.post_doubt()
        finally:
            self._gathered = {}

    def release_in_thread(self, jobs: Iterable[Job]) -> bool:
        """Release these jobs now, in another thread than the event loop's. Return True if all wait again.

        Raise nothing. Call :meth:`released_in_thread` in the event loop afterwards.
        """
        results = [self.release_now(one, _as_fetched(its_jobs)) for one, its_jobs in _by_worker(jobs).items()]
        return all(results)

    def released_in_thread(self, all_wait: bool) -> None:
        """Tell the worker that a thread has released jobs."""
        if not all_wait:
            self._board.post_doubt()
        if not self.is_under_way:
            self._board.post_return()

    def _forget(self, task: asyncio.Task[bool]) -> None:
        del self._under_way[task]
        if task.cancelled() or task.exception() is not None or not task.result():
            self._board.post_doubt()
        if not self.is_under_way:
            self._board.post_return()

    async def finish(self, patience: float | None = None) -> None:
        """Wait up to ``patience`` seconds for the releases under way, and cancel what has not ended."""
        self._release_gathered()
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=patience)
            for task in late:
                task.cancel()

    async def _release(self, worker_id: int, jobs: list[Job], delay: float | None) -> bool:
        """Release jobs of one worker id, and return True if all of them certainly wait again."""
        left = _as_fetched(jobs)
        pauses = Backoff(first=_LOCKED_PAUSE)
        for _ in range(_TRIES):
            try:
                released = await self._manager.release_jobs(left, worker_id=worker_id, delay=delay)
            except Exception as error:
                self._log_failure(left, error)
                return False
            left = self._rest(left, released)
            if not left:
                return True
            await asyncio.sleep(pauses.next_wait())
        return False

    def release_now(self, worker_id: int, left: list[core.FetchedJob]) -> bool:
        """Do the same as :meth:`release_in_thread`, for jobs of one worker id."""
        pauses = Backoff(first=_LOCKED_PAUSE)
        for _ in range(_TRIES):
            try:
                released = self._manager.release_jobs_in_thread(left, worker_id=worker_id)
            except Exception as error:
                self._log_failure(left, error)
                return False
            left = self._rest(left, released)
            if not left:
                return True
            time.sleep(pauses.next_wait())
        return False

    def _rest(self, left: list[core.FetchedJob], released: Collection[int]) -> list[core.FetchedJob]:
        self._log(logging.DEBUG, "Released %d jobs that have not started%s", list(released), "")
        return [job for job in left if job.id not in released]

    def _log_failure(self, left: list[core.FetchedJob], error: Exception) -> None:
        message = "%d jobs that have not started may not have been released: %s"
        self._log(logging.WARNING, message, [job.id for job in left], error)

    def _log(self, level: int, message: str, job_ids: list[int], detail: object) -> None:
        if self._logger.isEnabledFor(level):
            extra = {"action": "release_jobs", "jobs": job_ids}
            with contextlib.suppress(BaseException):  # a log handler that raises must not cut this short
                self._logger.log(level, message, len(job_ids), detail, extra=extra)


def _by_worker(jobs: Iterable[Job]) -> dict[int, list[Job]]:
    by_worker: dict[int, list[Job]] = {}
    for job in jobs:
        if job.worker_id is not None:
            by_worker.setdefault(job.worker_id, []).append(job)
    return by_worker


def _as_fetched(jobs: Iterable[Job]) -> list[core.FetchedJob]:
    return [core.FetchedJob(id=job.id, attempts=job.attempts) for job in jobs if job.id is not None]
