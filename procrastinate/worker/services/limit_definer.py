"""Service that stores the limits of the code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Protocol

from procrastinate import exceptions
from procrastinate._text.logs import Seldom
from procrastinate.core.errors import is_lock_timeout, is_passing, is_row_refused
from procrastinate.limits import Limit
from procrastinate.manager import JobManager

if TYPE_CHECKING:
    # At run time, the first job would wait 40 ms until the statements of limits are built.
    from procrastinate.core import LimitDefinition

_PAUSE = 2.0
"""Seconds between two looks."""
_PAUSE_AFTER_REFUSAL = 30.0
"""The same after the database has refused a limit."""


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
        self._has_refused = False
        self._refused = Seldom(
            logger,
            "The database refused %d times to store limits of the code. Their jobs wait, and other jobs run. "
            "The last error: %s",
            "limits_refused",
        )

    async def define(self, *, apart: bool = False) -> None:
        """Store the limits that are new. One that the database refuses keeps none of the others from being stored.

        A limit that another program has stored with other numbers is logged by its name.

        Parameters
        ----------
        apart:
            Whether a limit that an open transaction has locked keeps none of the others, either. This may take some
            seconds, and a worker that starts does not wait for it.

        Raises
        ------
        ConnectorException
            The database cannot be reached.
        """
        self._has_refused = False
        parts = [self._find_new()]
        while parts:
            part = parts.pop()
            if not part:
                continue
            try:
                replaced = await self._manager.define_limits(part)
            except exceptions.ConnectorException as error:
                if is_passing(error) and not is_lock_timeout(error):
                    raise
                middle = len(part) // 2
                if middle and (is_row_refused(error) or (apart and is_lock_timeout(error))):
                    parts += [part[middle:], part[:middle]]
                else:
                    self._tell(error)
            else:
                self._report(set(replaced) - {definition.name for definition in self._stored})
                self._stored.update(part)

    def _find_new(self) -> list[LimitDefinition]:
        definitions = [limit.definition for limit in self._app.list_limits()]
        return [definition for definition in definitions if definition not in self._stored]

    def _tell(self, error: exceptions.ConnectorException) -> None:
        if is_lock_timeout(error):
            self._logger.warning(
                "An open transaction changes a limit. The worker starts, and stores its limits later",
                extra={"action": "limits_locked"},
            )
        else:
            self._has_refused = True
            self._refused.note(error)

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
            await asyncio.sleep(_PAUSE_AFTER_REFUSAL if self._has_refused else _PAUSE)
            await self.define(apart=True)
