"""Service that writes the reports of running jobs."""

from __future__ import annotations

import asyncio
import contextlib

from procrastinate import exceptions
from procrastinate._text.logs import Seldom, get_logger
from procrastinate.core import NewReport
from procrastinate.core.errors import is_row_refused
from procrastinate.manager import JobManager
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.run.run_reports import RunReports

logger = get_logger(__name__)

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
        self._dropped = Seldom(logger, "The database refused %d reports of jobs. The last one: %s", "reports_refused")
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
            parts = [self._reports.take()]
            while parts:
                part = parts.pop()
                try:
                    await self._write(part)
                except exceptions.ConnectorException as error:
                    if is_row_refused(error):
                        parts += self._without_refused(part, error)
                        continue
                    self._reports.put_back([report for rest in (part, *parts) for report in rest])
                    self._has_reports.set()
                    raise

    async def _write(self, reports: list[NewReport]) -> None:
        if reports:
            await self._manager.write_reports(reports, worker_id=self._board.worker_id)

    def _without_refused(self, reports: list[NewReport], error: exceptions.ConnectorException) -> list[list[NewReport]]:
        """Return the halves of what the database refuses. A single report is dropped: it would be refused again."""
        middle = len(reports) // 2
        if middle:
            return [reports[middle:], reports[:middle]]
        self._dropped.note(error)
        return []

    async def finish(self, patience: float) -> None:
        """Write the last reports, for at most ``patience`` seconds. Reports that cannot be written are lost."""
        with contextlib.suppress(exceptions.ConnectorException, TimeoutError):
            async with asyncio.timeout(patience):
                await self.write()
