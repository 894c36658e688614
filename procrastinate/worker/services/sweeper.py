"""Free the parked jobs and the lines of limits that no other event frees."""

from __future__ import annotations

from procrastinate.manager import JobManager


class Sweeper:
    """Walks through the locks and the lines, a part at each call. The next round begins when one has ended."""

    def __init__(self, manager: JobManager) -> None:
        self._manager = manager
        self._locks_to: str | None = None
        self._lines_to: tuple[str, str] | None = None

    async def sweep(self) -> None:
        """Sweep the next parts.

        Raises
        ------
        ConnectorException
            The database cannot be reached, or refuses the statement.
        """
        sweep = await self._manager.sweep_parked_jobs(start=self._locks_to)
        self._locks_to = sweep.reached
        lines = await self._manager.sweep_lines(start=self._lines_to)
        self._lines_to = lines.reached
