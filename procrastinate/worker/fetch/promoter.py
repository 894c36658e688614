"""Promotes jobs that fall due, for the fetch loop."""

from __future__ import annotations

import asyncio
import logging

from procrastinate._text.logs import Seldom
from procrastinate.core import Promotion
from procrastinate.core.errors import is_passing, is_refused_for_now
from procrastinate.exceptions import ConnectorException
from procrastinate.manager import JobManager
from procrastinate.worker.fetch.looks import Looks
from procrastinate.worker.fetch.paused_queues import PausedQueues
from procrastinate.worker.fetch.promotion_turn import Turn

_UNCALLED_INTERVAL = 0.1
"""Seconds between two promotions of a worker that has enough to do and is not called."""


class Promoter:
    """Promotes when there is a reason to, and at each interval.

    Parameters
    ----------
    looks:
        Has the reasons, and learns what a promotion leads to.
    paused:
        The queues that are paused.
    interval:
        The longest time between two promotions, in seconds.
    """

    def __init__(
        self, manager: JobManager, looks: Looks, paused: PausedQueues, *, interval: float, logger: logging.Logger
    ) -> None:
        self._manager = manager
        self._looks = looks
        self._paused = paused
        self._interval = interval
        self._turn = Turn(logger)
        self._refused = Seldom(
            logger,
            "The database refused %d promotions. Jobs that are ready run, and jobs with a schedule, a lock or a limit "
            "may wait. The last error: %s",
            "promotion_refused",
        )
        self._last = 0.0
        self._left_undecided = 0

    async def promote_if_due(self, *, is_called: bool) -> None:
        """Promote, unless there is no reason to.

        A promotion that the database refuses is logged and tried again later. It keeps no ready job from its fetch.

        Parameters
        ----------
        is_called:
            Whether writers notify this worker. Otherwise it promotes more often.

        Raises
        ------
        ConnectorException
            The database cannot be reached.
        """
        interval = self._interval if is_called else min(_UNCALLED_INTERVAL, self._interval)
        if self._looks.is_promotion_due or asyncio.get_running_loop().time() - self._last > interval:
            try:
                await self._promote()
            except ConnectorException as error:
                if is_passing(error) and not is_refused_for_now(error):
                    raise
                self._refused.note(error)
                self._looks.promotion_refused(is_passing=is_refused_for_now(error))

    async def _promote_around(self, paused: frozenset[str]) -> Promotion:
        try:
            return await self._manager.promote_jobs(
                past=self._left_undecided, without_turn=self._turn.is_ignored, paused=paused
            )
        finally:
            if paused:
                self._paused.note_promotion(paused)

    async def _promote(self) -> None:
        self._looks.promotes()
        promotion = await self._promote_around(self._paused.names)
        self._turn.note(promotion)
        if promotion.undecided is not None:
            self._left_undecided = promotion.undecided
        self._last = asyncio.get_running_loop().time()
        self._looks.promoted(promotion)
        if promotion.has_arrivals:
            self._looks.resolved(await self._manager.resolve_arrivals())
