"""Service that stores the limits of the code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Protocol

from procrastinate import exceptions
from procrastinate._text.logs import Seldom
from procrastinate.core.errors import is_lock_timeout, is_passing
from procrastinate.limits import Limit
from procrastinate.manager import JobManager

if TYPE_CHECKING:
    # At run time, the first job would wait 40 ms until the statements of limits are built.
    from procrastinate.core import LimitDefinition

_PAUSE = 2.0
"""Seconds between two looks."""


class HasLimits(Protocol):
    """The app of the worker."""

    def list_limits(self) -> Iterable[Limit]:
        """Return the limits of the code."""


class LimitDefiner:
    """Store the limits of the code at the start of a worker, and later those that a module declares while it runs.

    A worker does not wait for the transaction of a user that changes a limit, and it needs no limit for the jobs that
    have none. If the database refuses a limit, the worker logs that, runs jobs, and tries again.
    """

    def __init__(self, manager: JobManager, app: HasLimits, logger: logging.Logger) -> None:
        self._manager = manager
        self._app = app
        self._logger = logger
        self._stored: set[LimitDefinition] = set()
        self._refused = Seldom(
            logger,
            "The database refused %d times to store limits of the code. Their jobs wait, and other jobs run. "
            "The last error: %s",
            "limits_refused",
        )

    async def define(self) -> None:
        """Store the limits that are new, if no open transaction has locked one of them and the database takes them.

        A limit that another program has stored with other numbers is logged by its name.

        Raises
        ------
        ConnectorException
            The database cannot be reached.
        """
        new = [limit.definition for limit in self._app.list_limits()]
        new = [definition for definition in new if definition not in self._stored]
        if not new:
            return
        try:
            replaced = await self._manager.define_limits(new)
        except exceptions.ConnectorException as error:
            if is_lock_timeout(error):
                self._logger.warning(
                    "An open transaction changes a limit. The worker starts, and stores its limits later",
                    extra={"action": "limits_locked"},
                )
            elif is_passing(error):
                raise
            else:
                self._refused.note(error)
        else:
            self._report(set(replaced) - {definition.name for definition in self._stored})
            self._stored.update(new)

    def _report(self, replaced: Collection[str]) -> None:
        for name in sorted(replaced):
            self._logger.warning(
                "Another program had stored the limit %r with other numbers, and those of this worker apply now. If "
                "both programs are in use, the one whose worker starts last decides: give both the same numbers, or "
                "one of the limits another name",
                name,
                extra={"action": "limits_differ", "limit_name": name},
            )

    def define_again(self, names: Collection[str]) -> set[str]:
        """Store limits at the next look although they were stored. Return the names of those that the code has."""
        lost = {definition for definition in self._stored if definition.name in names}
        self._stored -= lost
        return {definition.name for definition in lost}

    async def run(self) -> None:
        """Look for new limits from time to time."""
        while True:
            await asyncio.sleep(_PAUSE)
            await self.define()
