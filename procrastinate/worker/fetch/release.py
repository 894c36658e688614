"""Gives jobs back that were fetched and not started."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable

from procrastinate import core
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.worker.backoff import Backoff

_LOCKED_PAUSE = 0.02
"""Seconds until the second of the tries. Nothing is fetched meanwhile: they take a third of a second at most."""
_TRIES = 5


class Releaser:
    """Gives jobs back to wait, in the background.

    It is not tried again when the answer is lost: the jobs may wait again, and may even have been fetched anew, which
    ``on_failure`` has to find out. A job whose row somebody has locked is mostly free a moment later; one that stays
    locked is found there, too.

    Parameters
    ----------
    on_failure:
        Called when jobs may have stayed this worker's, once they are not among ``ids`` any more.
    on_done:
        Called when nothing is under way any more.
    """

    def __init__(
        self,
        manager: JobManager,
        logger: logging.Logger,
        on_failure: Callable[[], None],
        on_done: Callable[[], None],
    ) -> None:
        self._manager = manager
        self._logger = logger
        self._on_failure = on_failure
        self._on_done = on_done
        self._under_way: dict[asyncio.Task[bool], set[int]] = {}

    @property
    def is_under_way(self) -> bool:
        """Whether it is not known yet which jobs wait again."""
        return bool(self._under_way)

    @property
    def ids(self) -> set[int]:
        """The jobs that are being given back. In any thread."""
        return set().union(*list(self._under_way.values()))

    def release(self, jobs: Iterable[Job], delay: float | None = None) -> None:
        """Give these jobs back, soon. Each worker id is the one that its job was fetched with.

        Parameters
        ----------
        delay:
            Seconds until they may start; ``None``: they are as ready as they were.
        """
        for worker_id, its_jobs in _by_worker(jobs).items():
            task = asyncio.create_task(self._release(worker_id, its_jobs, delay), name="give back jobs")
            self._under_way[task] = {job.id for job in its_jobs if job.id is not None}
            task.add_done_callback(self._forget)

    def release_in_thread(self, jobs: Iterable[Job]) -> bool:
        """Give these jobs back now, in a thread other than the event loop's, and return whether all of them wait again.

        Raises nothing. Call :meth:`released_in_thread` in the event loop afterwards.
        """
        results = [self.release_now(one, _as_fetched(its_jobs)) for one, its_jobs in _by_worker(jobs).items()]
        return all(results)

    def released_in_thread(self, all_wait: bool) -> None:
        """Tell the worker that a thread has given jobs back."""
        if not all_wait:
            self._on_failure()
        if not self._under_way:
            self._on_done()

    def _forget(self, task: asyncio.Task[bool]) -> None:
        del self._under_way[task]
        if task.cancelled() or task.exception() is not None or not task.result():
            self._on_failure()
        if not self._under_way:
            self._on_done()

    async def finish(self, patience: float | None = None) -> None:
        """Wait until all that was begun is done, for so many seconds at most; give up what is not."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=patience)
            for task in late:
                task.cancel()

    async def _release(self, worker_id: int, jobs: list[Job], delay: float | None) -> bool:
        """Whether all of them wait again, for sure."""
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
        """Do as :meth:`release_in_thread`, with jobs of one worker id."""
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
        self._log(logging.DEBUG, "Gave %d jobs back that have not started%s", list(released), "")
        return [job for job in left if job.id not in released]

    def _log_failure(self, left: list[core.FetchedJob], error: Exception) -> None:
        message = "%d jobs that have not started may not have been given back: %s"
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
