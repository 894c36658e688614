"""Reconcile the jobs that a worker holds with the jobs that the database names for it."""

from __future__ import annotations

from procrastinate.manager import JobManager
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.run.outcome_writer import OutcomeWriter
from procrastinate.worker.run.slots import Slots
from procrastinate.worker.services.rescuer import Rescuer


class StockTaker:
    """Return to the queue the jobs that a lost answer has claimed for this worker.

    Parameters
    ----------
    max_rescues:
        A job that was returned more often than this fails.
    """

    def __init__(
        self,
        manager: JobManager,
        board: Noticeboard,
        slots: Slots,
        outcome_writer: OutcomeWriter,
        rescuer: Rescuer,
        *,
        max_rescues: int,
    ) -> None:
        self._manager = manager
        self._board = board
        self._slots = slots
        self._outcome_writer = outcome_writer
        self._rescuer = rescuer
        self._max_rescues = max_rescues

    async def take_stock(self) -> None:
        """Return the unknown jobs. The fetch loop calls this between two fetches.

        Raises
        ------
        ConnectorException
            The database cannot be reached.
        """
        known = self._slots.held_ids | self._outcome_writer.unrecorded_ids
        returned = await self._manager.return_unknown_jobs(
            worker_id=self._board.worker_id, known_ids=known, max_rescues=self._max_rescues
        )
        self._rescuer.tell(returned, "was fetched, but the answer was lost")
