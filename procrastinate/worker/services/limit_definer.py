"""Service that stores the limits of the code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from procrastinate import exceptions
from procrastinate.core import LimitDefinition
from procrastinate.core.errors import is_lock_timeout
from procrastinate.manager import JobManager

_PAUSE = 2.0
"""Seconds between two tries."""


class LimitDefiner:
    """Store the limits of the code at the start of a worker, or later if an open transaction changes one of them.

    A worker does not wait for the transaction of a user. It runs jobs in the meantime.
    """

    def __init__(self, manager: JobManager, definitions: Sequence[LimitDefinition], logger: logging.Logger) -> None:
        self._manager = manager
        self._definitions = definitions
        self._logger = logger
        self._is_done = not definitions

    async def define(self) -> None:
        """Store the limits, if no open transaction has locked one of them."""
        if self._is_done:
            return
        try:
            await self._manager.define_limits(self._definitions)
        except exceptions.ConnectorException as error:
            if not is_lock_timeout(error):
                raise
            self._logger.warning(
                "An open transaction changes a limit. The worker starts, and stores its limits later",
                extra={"action": "limits_locked"},
            )
        else:
            self._is_done = True

    async def run(self) -> None:
        """Try again until the limits are stored."""
        while not self._is_done:
            await asyncio.sleep(_PAUSE)
            await self.define()
