"""Free the parked jobs and the lines of limits that no other event frees."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable

from procrastinate.manager import JobManager


class Sweeper:
    """Walks through the locks and the lines, a part at each call. The next round begins when one has ended.

    A limit that jobs name and no worker has defined is logged once.

    Parameters
    ----------
    define_again:
        Stores the limits with these names that the code has. It returns their names.
    """

    def __init__(
        self, manager: JobManager, define_again: Callable[[Collection[str]], set[str]], logger: logging.Logger
    ) -> None:
        self._manager = manager
        self._define_again = define_again
        self._logger = logger
        self._reported: set[str] = set()
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
        self._report(set(lines.undefined) - self._define_again(lines.undefined))

    def _report(self, undefined: Iterable[str]) -> None:
        for name in sorted(undefined):
            if name not in self._reported:
                self._reported.add(name)
                self._logger.warning(
                    "No worker has defined the limit %r, and its jobs wait. Start a worker of the program that has the "
                    "limit, or set numbers with `procrastinate limits set`",
                    name,
                    extra={"action": "limit_undefined", "limit_name": name},
                )
