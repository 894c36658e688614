"""Gives jobs back that were fetched and not started."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from procrastinate import core
from procrastinate.jobs import Job
from procrastinate.manager import JobManager


class GivingBack:
    """Gives jobs back to wait, in the background.

    It is tried once. When the answer is lost the jobs may wait again, and may even have been fetched anew, which
    ``on_failure`` has to find out. A job whose row somebody has locked is found there, too.

    Parameters
    ----------
    on_failure:
        Called when jobs may have stayed this worker's.
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
        self._under_way: dict[asyncio.Task[None], set[int]] = {}

    @property
    def is_under_way(self) -> bool:
        """Whether it is not known yet which jobs wait again."""
        return bool(self._under_way)

    @property
    def ids(self) -> set[int]:
        """The jobs that are being given back."""
        return set().union(*self._under_way.values())

    def give_back(self, jobs: Iterable[Job]) -> None:
        """Give these jobs back, soon. Each worker id is the one that its job was fetched with."""
        by_worker: dict[int, list[Job]] = {}
        for job in jobs:
            if job.worker_id is not None:
                by_worker.setdefault(job.worker_id, []).append(job)
        for worker_id, its_jobs in by_worker.items():
            task = asyncio.create_task(self._give_back(worker_id, its_jobs), name="give back jobs")
            self._under_way[task] = {job.id for job in its_jobs if job.id is not None}
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        if not self._under_way:
            self._on_done()

    async def finish(self, patience: float | None = None) -> None:
        """Wait until all that was begun is done, for so many seconds at most; give up what is not."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=patience)
            for task in late:
                task.cancel()

    async def _give_back(self, worker_id: int, jobs: list[Job]) -> None:
        fetched = [core.FetchedJob(id=job.id, attempts=job.attempts) for job in jobs if job.id is not None]
        try:
            given_back = await self._manager.give_back_jobs(fetched, worker_id=worker_id)
        except Exception as error:
            self._on_failure()
            self._log(
                logging.WARNING, "%d jobs that were fetched ahead may not have been given back: %s", fetched, error
            )
            return
        if len(given_back) < len(fetched):
            self._on_failure()
        self._log(logging.DEBUG, "Gave %d jobs back that were fetched ahead%s", fetched, "")

    def _log(self, level: int, message: str, fetched: list[core.FetchedJob], detail: object) -> None:
        if self._logger.isEnabledFor(level):
            extra = {"action": "give_back_jobs", "jobs": [job.id for job in fetched]}
            self._logger.log(level, message, len(fetched), detail, extra=extra)
