"""The service that removes dead workers and rescues their jobs."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable

from procrastinate.core.rows import LateWorker, RescuedJob
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from procrastinate.worker.services.liveness_watch import Pulse, Watch


class Rescuer:
    """Looks after what others left behind: workers that died, their jobs, jobs parked behind nobody.

    Every worker does it, none is special; operations pass over what another is busy with.

    Parameters
    ----------
    interval, stalled_worker_timeout:
        Seconds, of this worker. Workers that do not say theirs are judged by these.
    worker_id:
        The id of this worker, which does not judge itself. It may change.
    pulse:
        When the database has answered, this worker's heartbeats included.
    on_look:
        Called after each look.
    """

    def __init__(
        self,
        manager: JobManager,
        *,
        interval: float,
        stalled_worker_timeout: float,
        worker_id: Callable[[], int],
        pulse: Pulse,
        max_rescues: int,
        on_look: Callable[[], None],
        logger: logging.Logger,
    ) -> None:
        self._manager = manager
        self._interval = interval
        self._stalled_worker_timeout = stalled_worker_timeout
        self._worker_id = worker_id
        self._pulse = pulse
        self._watch = Watch(interval)
        self._max_rescues = max_rescues
        self._on_look = on_look
        self._logger = logger
        self._swept_to: str | None = None
        self._is_rescuing = False
        self.has_looked = asyncio.Event()

    @property
    def has_jobs_to_come(self) -> bool:
        """Whether a worker that holds jobs looks dead, and is watched, or was removed and its jobs are not back yet."""
        return self._is_rescuing or self._watch.has_jobs_to_come

    async def run(self) -> None:
        """Once at the start, then at each interval, until cancelled. More often while a worker looks dead."""
        while True:
            try:
                await self._look_once()
            except Exception:
                self._watch = Watch(self._interval)  # what was seen before may have changed unseen
                raise
            finally:
                self._is_rescuing = False
                self.has_looked.set()
                self._on_look()
            await asyncio.sleep(self._watch.pause * random.uniform(0.8, 1.2))

    async def _look_once(self) -> None:
        """Prune, rescue, sweep."""
        await self._remove_dead_workers()
        await self._rescue_jobs()
        sweep = await self._manager.sweep_parked_jobs(start=self._swept_to)
        self._swept_to = sweep.reached

    async def _remove_dead_workers(self) -> None:
        dead = await self._find_dead_workers()
        if not dead:
            return
        self._is_rescuing = True
        removed = await self._manager.remove_dead_workers(dead)
        self._watch.forget(removed)
        if removed:
            self._logger.warning(
                "Workers that had not been heard of for too long were removed: %s",
                ", ".join(map(str, removed)),
                extra={"action": "prune_stalled_workers", "workers": removed},
            )

    async def _find_dead_workers(self) -> list[LateWorker]:
        asked = self._pulse.clock()
        late = await self._manager.list_late_workers(
            worker_id=self._worker_id(),
            heartbeat_interval=self._interval,
            stalled_timeout=self._stalled_worker_timeout,
        )
        self._pulse.answered(asked)
        pause = self._pulse.take_longest_pause()
        dead = self._watch.look(late, asked=asked, answered=self._pulse.clock(), pause=pause)
        for seen in self._watch.new_with_jobs:
            self._logger.info(
                "Worker %d holds jobs and has not been heard of for %.0f s. They are taken back once that is %.0f s",
                seen.id,
                seen.age,
                seen.stalled_timeout,
                extra={"action": "worker_watched", "late_worker": seen.id},
            )
        return dead

    async def _rescue_jobs(self) -> None:
        rescued = await self._manager.rescue_jobs(max_rescues=self._max_rescues)
        self.tell(rescued, "was left behind by a worker that is gone")

    def tell(self, rescued: Iterable[RescuedJob], why: str) -> None:
        """Log that jobs were taken back, and, as errors, those that have failed of it."""
        for job in rescued:
            level, action, end = logging.WARNING, "job_rescued", ""
            if job.status is Status.FAILED:
                level, action = logging.ERROR, "job_given_up"
                end = f", for it had been taken back {self._max_rescues} times before (max_rescues)"
            self._logger.log(
                level,
                "Job %s[%s] %s: it is %s now%s",
                job.task_name,
                job.id,
                why,
                job.status.value,
                end,
                extra={"action": action, "job_id": job.id, "status": job.status.value},
            )
