"""Service that goes on with operations on many jobs."""

from __future__ import annotations

import logging

from procrastinate import exceptions
from procrastinate.manager import JobManager
from procrastinate.worker.services.watch_duty import WatchDuty


class BulkWork:
    """Look from time to time for operations that are not over, and work on them a step at a time.

    The page of an operation and the command work on it too. A step locks the row of its operation, so only one of them
    does the next step. A worker does so whatever queues it serves, and while all its slots are busy.

    Parameters
    ----------
    duty:
        Says when the next look is.
    """

    def __init__(self, manager: JobManager, duty: WatchDuty, logger: logging.Logger) -> None:
        self._manager = manager
        self._duty = duty
        self._logger = logger
        self._told: set[tuple[int | None, str]] = set()

    async def run(self) -> None:
        """Work until cancelled. The first look is not at the start, so a worker that ends soon does without."""
        while True:
            await self._duty.until_next_look()
            while await self._do_steps():
                pass

    async def _do_steps(self) -> bool:
        """Do a step of each operation, and return whether one has more steps.

        Those that cannot go on, because a later release has stored them for example, hide none of the others.
        """
        has_more, after = False, 0
        while operations := await self._list_open(after):
            has_more = any([await self._do_step(operation_id) for operation_id in operations]) or has_more
            after = operations[-1]
        return has_more

    async def _list_open(self, after: int) -> list[int]:
        """Return the next operations that are not over. A role without the right to read them works on none."""
        try:
            return await self._manager.list_open_operations(after=after)
        except exceptions.DatabaseUnavailable:
            raise
        except exceptions.ConnectorException as error:
            self._tell(logging.WARNING, None, f"This worker leaves operations on many jobs to others: {error}")
            return []

    async def _do_step(self, operation_id: int) -> bool:
        try:
            has_more = await self._manager.step_bulk_operation(operation_id)
        except exceptions.DatabaseUnavailable:
            raise
        except exceptions.ConnectorException as error:
            self._tell(
                logging.WARNING, operation_id, f"The database refused a step of operation {operation_id}: {error}"
            )
            return False
        if has_more:
            self._tell(logging.INFO, operation_id, f"This worker goes on with operation {operation_id}")
        return has_more

    def _tell(self, level: int, operation_id: int | None, text: str) -> None:
        """Log a message of an operation, or of all, once."""
        if (operation_id, text) not in self._told:
            self._told.add((operation_id, text))
            self._logger.log(level, "%s", text, extra={"action": "bulk_operation", "operation": operation_id})
