"""Service that removes dead workers and rescues their jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from procrastinate import exceptions
from procrastinate.core.rows import RescuedJob
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.run.observed_ends import LostJobs
from procrastinate.worker.services.dead_workers import DeadWorkers
from procrastinate.worker.services.limit_definer import LimitDefiner
from procrastinate.worker.services.liveness_watch import Pulse
from procrastinate.worker.services.supervision import do_each
from procrastinate.worker.services.sweeper import Sweeper
from procrastinate.worker.services.watch_duty import WatchDuty


class Rescuer:
    """Clean up after others: remove dead workers, rescue their jobs, free orphaned parked jobs.

    Every worker runs this service, and a few of a fleet look at each interval. Operations skip rows that another worker
    has locked.

    Parameters
    ----------
    duty:
        Says when the next look is.
    board, interval, legacy_worker_timeout, pulse:
        As for :class:`~procrastinate.worker.services.dead_workers.DeadWorkers`.
    posts_looks:
        Whether it asks the fetch loop for a look after each check. A worker that ends without jobs waits for that.
    lost_jobs:
        Told of each job that ends because its worker is lost, with the reason.
    limit_definer:
        As for :class:`~procrastinate.worker.services.sweeper.Sweeper`.
    """

    def __init__(
        self,
        manager: JobManager,
        board: Noticeboard,
        duty: WatchDuty,
        *,
        interval: float,
        legacy_worker_timeout: float,
        pulse: Pulse,
        max_rescues: int,
        posts_looks: bool,
        lost_jobs: LostJobs,
        limit_definer: LimitDefiner,
        logger: logging.Logger,
    ) -> None:
        self._manager = manager
        self._board = board
        self.duty = duty
        self._dead_workers = DeadWorkers(
            manager, board, interval=interval, legacy_timeout=legacy_worker_timeout, pulse=pulse, logger=logger
        )
        self._max_rescues = max_rescues
        self._posts_looks = posts_looks
        self._lost_jobs = lost_jobs
        self._logger = logger
        self._sweeper = Sweeper(manager, limit_definer, logger)
        self._is_rescuing = False
        self.has_looked = asyncio.Event()
        self.on_rescue: Callable[[RescuedJob], None] | None = None
        """Called with each job that was taken back."""

    @property
    def has_jobs_to_come(self) -> bool:
        """True if a worker with jobs looks dead and is watched, or was removed and its jobs are not rescued yet."""
        return self._is_rescuing or self._dead_workers.has_jobs_to_come

    async def run(self) -> None:
        """Check at the start and when it is this worker's turn, until cancelled.

        It checks more often while a worker looks dead that it watches.
        """
        while True:
            try:
                await self._look_once()
            except exceptions.DatabaseUnavailable:
                self._dead_workers.start_over()
                raise
            finally:
                self._is_rescuing = False
                self.has_looked.set()
                if self._posts_looks:
                    self._board.post_room(is_upcoming=True)
            await self.duty.until_next_look(self._dead_workers.pause)

    async def _look_once(self) -> None:
        """Remove dead workers, sweep parked jobs, lines and workflows, and rescue jobs, each as far as it goes."""
        await do_each(self._remove_dead_workers, self._look_after_jobs)

    async def _look_after_jobs(self) -> None:
        unswept = await self._manager.find_unswept()
        rescue = [self._rescue_jobs] if unswept.orphaned else []
        # The lock of a rescued job is free until the next promotion. A sweep after the rescue would take out the job
        # behind it, and that one might start first.
        await do_each(*self._sweeper.parts(unswept), *rescue)

    async def _remove_dead_workers(self) -> None:
        try:
            dead = await self._dead_workers.find()
            if dead:
                self._is_rescuing = True
                await self._dead_workers.remove(dead)
        except Exception:
            self._dead_workers.start_over()
            raise

    async def _rescue_jobs(self) -> None:
        rescued = await self._manager.rescue_jobs(max_rescues=self._max_rescues)
        self.tell(rescued, "was left behind by a dead worker")

    def tell(self, rescued: Iterable[RescuedJob], why: str) -> None:
        """Log rescued jobs, and log as errors the jobs that failed because of too many rescues."""
        for job in rescued:
            if self.on_rescue is not None:
                self.on_rescue(job)
            level, action, end = logging.WARNING, "job_rescued", ""
            if job.status is Status.FAILED:
                level, action = logging.ERROR, "job_given_up"
                end = f", after {self._max_rescues} earlier rescues (max_rescues)"
            if job.status is not Status.TODO:
                self._lost_jobs.tell(job, f"The job {why}{end}")
            self._logger.log(
                level,
                "Job %s[%s] %s: its status is now %s%s",
                job.task_name,
                job.id,
                why,
                job.status.value,
                end,
                extra={"action": action, "job_id": job.id, "status": job.status.value},
            )
