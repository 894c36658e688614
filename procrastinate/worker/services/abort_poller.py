"""Service that polls for abort requests."""

from __future__ import annotations

import asyncio
import contextlib

from procrastinate.manager import JobManager
from procrastinate.worker.run.slots import Slots

_SHORTEST_ABORT_PAUSE = 0.1
"""Minimum seconds between two polls, however many hints come."""


class AbortPoller:
    """Poll the table for abort requests of running jobs: at each interval, and soon after a hint.

    Every role that can log in may send notifications. So a notification is only a hint and never aborts a job itself.

    Parameters
    ----------
    interval:
        Seconds between two polls without a hint.
    slots:
        Have the jobs of this worker, and abort them.
    """

    def __init__(
        self,
        manager: JobManager,
        interval: float,
        slots: Slots,
    ) -> None:
        self._manager = manager
        self._interval = interval
        self._slots = slots
        self._hinted = asyncio.Event()

    def hint(self, job_id: int) -> None:
        """Poll soon if this worker holds the job. Hints before the poll share it."""
        if job_id in self._slots.held_ids:
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
        running = self._slots.held_ids
        if running:
            for job_id in running.intersection(await self._manager.list_jobs_to_abort_async()):
                self._slots.abort(job_id)
