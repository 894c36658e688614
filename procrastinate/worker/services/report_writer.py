"""Service that writes the reports of running jobs."""

from __future__ import annotations

import asyncio
import contextlib

from procrastinate import exceptions
from procrastinate.manager import JobManager
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.run.run_reports import RunReports

_PAUSE = 1.0
"""Seconds between two writes."""


class ReportWriter:
    """Write the newest reports of all running jobs in one statement a second, and none while no job reports.

    Parameters
    ----------
    board:
        Has the id under which the worker is registered.
    """

    def __init__(self, manager: JobManager, reports: RunReports, board: Noticeboard) -> None:
        self._manager = manager
        self._reports = reports
        self._board = board
        self._loop = asyncio.get_running_loop()
        self._has_reports = asyncio.Event()
        self._writing = asyncio.Lock()
        reports.on_first = self._wake_threadsafe

    def _wake_threadsafe(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has stopped
            self._loop.call_soon_threadsafe(self._has_reports.set)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._has_reports.wait()
            self._has_reports.clear()
            await self.write()
            await asyncio.sleep(_PAUSE)

    async def write(self) -> None:
        """Write the reports that wait.

        Raises
        ------
        ConnectorException
            They could not be written, and wait for the next call.
        """
        async with self._writing:
            reports = self._reports.take()
            if not reports:
                return
            try:
                await self._manager.write_reports(reports, worker_id=self._board.worker_id)
            except exceptions.ConnectorException:
                self._reports.put_back(reports)
                self._has_reports.set()
                raise

    async def finish(self, patience: float) -> None:
        """Write the last reports, for at most ``patience`` seconds. Reports that cannot be written are lost."""
        with contextlib.suppress(exceptions.ConnectorException, TimeoutError):
            async with asyncio.timeout(patience):
                await self.write()
