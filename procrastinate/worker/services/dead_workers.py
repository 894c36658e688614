"""Finds dead workers and removes them, so that their jobs count as orphaned."""

from __future__ import annotations

import logging

from procrastinate.core.rows import LateWorker
from procrastinate.manager import JobManager
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.services.liveness_watch import Pulse, Watch


class DeadWorkers:
    """Watches late workers and removes those that are dead.

    Parameters
    ----------
    board:
        Has the id of this worker, which does not judge itself.
    interval:
        Seconds between two heartbeats of this worker.
    legacy_timeout:
        Seconds without a heartbeat after which a worker of 3.x, which announces no timeout, is dead.
    pulse:
        Record of the database's answers, including those to this worker's heartbeats.
    """

    def __init__(
        self,
        manager: JobManager,
        board: Noticeboard,
        *,
        interval: float,
        legacy_timeout: float,
        pulse: Pulse,
        logger: logging.Logger,
    ) -> None:
        self._manager = manager
        self._board = board
        self._interval = interval
        self._legacy_timeout = legacy_timeout
        self._pulse = pulse
        self._watch = Watch(interval)
        self._logger = logger

    @property
    def has_jobs_to_come(self) -> bool:
        """True if a worker with jobs looks dead, or soon will, and is watched."""
        return self._watch.has_jobs_to_come

    @property
    def pause(self) -> float:
        """Seconds until the next check."""
        return self._watch.pause

    def start_over(self) -> None:
        """Begin a new watch. The old one may have missed changes."""
        self._watch = Watch(self._interval)

    async def remove(self, dead: list[LateWorker]) -> None:
        """Remove these workers, and log those that another worker has not removed before."""
        removed = await self._manager.remove_dead_workers(dead)
        self._watch.forget(removed)
        if removed:
            self._logger.warning(
                "Removed workers without a heartbeat for too long: %s",
                ", ".join(map(str, removed)),
                extra={"action": "prune_stalled_workers", "workers": removed},
            )

    async def find(self) -> list[LateWorker]:
        """Look at the late workers, and return the dead ones."""
        asked = self._pulse.clock()
        late = await self._manager.list_late_workers(
            worker_id=self._board.worker_id,
            heartbeat_interval=self._interval,
            stalled_timeout=self._legacy_timeout,
        )
        self._pulse.answered(asked)
        pause = self._pulse.take_longest_pause()
        dead = self._watch.look(late, asked=asked, answered=self._pulse.clock(), pause=pause)
        for seen in self._watch.new_with_jobs:
            self._logger.info(
                "Worker %d holds jobs and has not been heard of for %.0f s. Others take them back after %.0f s",
                seen.id,
                seen.age,
                seen.stalled_timeout,
                extra={"action": "worker_watched", "late_worker": seen.id},
            )
        return dead
