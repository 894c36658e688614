"""Service that polls for abort requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from procrastinate.manager import JobManager

_SHORTEST_ABORT_PAUSE = 0.1
"""Minimum seconds between two polls, however many hints come."""


class AbortPoller:
    """Poll the table for abort requests of running jobs: at each interval, and soon after a hint.

    Every role that can log in may send notifications. So a notification is only a hint and never aborts a job itself.

    Parameters
    ----------
    interval:
        Seconds between two polls without a hint.
    running_ids:
        Returns the ids of the jobs that this worker holds.
    on_abort:
        Called with the id of a held job that has an abort request.
    """

    def __init__(
        self,
        manager: JobManager,
        interval: float,
        running_ids: Callable[[], Collection[int]],
        on_abort: Callable[[int], None],
    ) -> None:
        self._manager = manager
        self._interval = interval
        self._running_ids = running_ids
        self._on_abort = on_abort
        self._hinted = asyncio.Event()

    def hint(self, job_id: int) -> None:
        """Poll soon if this worker holds the job. Hints before the poll share it."""
        if job_id in self._running_ids():
            self._hinted.set()

    async def run(self) -> None:
        """Poll until cancelled, but only while jobs run."""
        shortest = min(_SHORTEST_ABORT_PAUSE, self._interval)
        while True:
            self._hinted.clear()
            await self._look()
            await asyncio.sleep(shortest)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hinted.wait(), self._interval - shortest)

    async def _look(self) -> None:
        running = set(self._running_ids())
        if running:
            for job_id in running.intersection(await self._manager.list_jobs_to_abort_async()):
                self._on_abort(job_id)
