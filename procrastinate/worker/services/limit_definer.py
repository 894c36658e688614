"""Service that stores the limits of the code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from procrastinate import exceptions
from procrastinate.core.errors import is_lock_timeout
from procrastinate.limits import Limit
from procrastinate.manager import JobManager

if TYPE_CHECKING:
    # At run time, the first job would wait 40 ms until the statements of limits are built.
    from procrastinate.core import LimitDefinition

_PAUSE = 2.0
"""Seconds between two looks."""


class LimitDefiner:
    """Store the limits of the code at the start of a worker, and later those that a module declares while it runs.

    A worker does not wait for the transaction of a user that changes a limit. It runs jobs, and tries again.
    """

    def __init__(self, manager: JobManager, list_limits: Callable[[], Iterable[Limit]], logger: logging.Logger) -> None:
        self._manager = manager
        self._list_limits = list_limits
        self._logger = logger
        self._stored: set[LimitDefinition] = set()

    async def define(self) -> None:
        """Store the limits that are new, if no open transaction has locked one of them.

        Raises
        ------
        ValueError
            Two limits of one name have different numbers.
        """
        new = [limit.definition for limit in self._list_limits()]
        new = [definition for definition in new if definition not in self._stored]
        if not new:
            return
        try:
            await self._manager.define_limits(new)
        except exceptions.ConnectorException as error:
            if not is_lock_timeout(error):
                raise
            self._logger.warning(
                "An open transaction changes a limit. The worker starts, and stores its limits later",
                extra={"action": "limits_locked"},
            )
        else:
            self._stored.update(new)

    async def run(self) -> None:
        """Look for new limits from time to time."""
        while True:
            await asyncio.sleep(_PAUSE)
            try:
                await self.define()
            except ValueError:
                self._logger.exception("Limits cannot be stored", extra={"action": "limits_differ"})
                return
