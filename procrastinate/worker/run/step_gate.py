"""Lets no step of a cancelled workflow start."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Collection

from procrastinate.manager import JobManager


@dataclasses.dataclass
class _Look:
    """One look at the database, for all steps that wait for it."""

    groups: set[int] = dataclasses.field(default_factory=set)
    cancelled: Collection[int] | None = None
    """The answer, or ``None`` before it."""


class StepGate:
    """Asks the database, before a step starts, whether the workflow was cancelled.

    A step may have been claimed before the cancel. No cancel that is committed before the question is missed, so a step
    that asks during a look waits for the next one. One look answers for all steps that wait for it. Other jobs never
    ask.
    """

    def __init__(self, manager: JobManager) -> None:
        self._manager = manager
        self._next = _Look()
        self._one_at_a_time = asyncio.Lock()

    async def may_start(self, group_id: int) -> bool:
        """Return whether a step of this group may start.

        Raises
        ------
        ConnectorException
            The database did not answer.
        """
        look = self._next
        look.groups.add(group_id)
        async with self._one_at_a_time:
            if look.cancelled is None:
                if look is self._next:
                    self._next = _Look()
                look.cancelled = await self._manager.list_cancelled_groups(sorted(look.groups))
        return group_id not in look.cancelled
