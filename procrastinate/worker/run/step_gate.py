"""Lets no step of a cancelled workflow start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from procrastinate import exceptions
from procrastinate.core.defaults import CANCEL_SEEN_WITHIN
from procrastinate.manager import JobManager

_MOST_QUESTIONS = 5
"""Questions before a start. A database that never answers in time must not hold the steps up for good."""


class StepGate:
    """Asks the database, before a step starts, whether the workflow was cancelled.

    A step may have been claimed before the cancel. One question answers for all steps that wait for it, and the answer
    counts for a moment. A cancel waits for that moment to pass before it returns. Other jobs never ask. An answer that
    comes after its moment, for example because a job has blocked the event loop, is asked for again.

    Parameters
    ----------
    clock:
        Seconds.
    """

    def __init__(self, manager: JobManager, clock: Callable[[], float] = time.monotonic) -> None:
        self._manager = manager
        self._clock = clock
        self._good_until: dict[int, float] = {}
        """The groups whose steps may start, each with the time until which that counts."""
        self._asked_for: set[int] = set()
        self._one_at_a_time = asyncio.Lock()
        self._failures = 0
        self._last_failure = exceptions.ConnectorException()

    async def may_start(self, group_id: int) -> bool:
        """Return whether a step of this group may start.

        Raises
        ------
        ConnectorException
            The database did not answer this question, or that of a step before. Otherwise all steps that wait would
            ask one after the other, each up to its timeout.
        """
        if self._is_good(group_id):
            return True
        self._asked_for.add(group_id)
        failures = self._failures
        async with self._one_at_a_time:
            if self._failures > failures and not self._is_good(group_id):
                raise _like(self._last_failure)
            for _ in range(_MOST_QUESTIONS):
                if self._is_good(group_id):
                    return True
                if not await self._ask(group_id):
                    return False
        return True

    def _is_good(self, group_id: int) -> bool:
        return self._clock() < self._good_until.get(group_id, 0.0)

    async def _ask(self, group_id: int) -> bool:
        groups, self._asked_for = self._asked_for | {group_id}, set()
        now = self._clock()  # before the question: a cancel may be committed right after it
        try:
            cancelled = await self._manager.list_cancelled_groups(sorted(groups))
        except exceptions.ConnectorException as error:
            self._failures, self._last_failure = self._failures + 1, _like(error)
            self._asked_for |= groups
            raise
        kept = {group: until for group, until in self._good_until.items() if until > now}
        self._good_until = kept | dict.fromkeys(groups.difference(cancelled), now + CANCEL_SEEN_WITHIN)
        return group_id not in cancelled


def _like(error: exceptions.ConnectorException) -> exceptions.ConnectorException:
    """Return a new error with the same text, which tells an outage from other errors, too."""
    is_outage = isinstance(error, exceptions.DatabaseUnavailable)
    return (exceptions.DatabaseUnavailable if is_outage else exceptions.ConnectorException)(str(error))
