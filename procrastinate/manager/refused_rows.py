"""Keeps a row that the database refuses to change from stopping the work on all others."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from procrastinate import exceptions
from procrastinate._quoting import Cut
from procrastinate._text.logs import get_logger
from procrastinate.core.errors import is_refused_for_now, is_row_refused

logger = get_logger(__name__)

R = TypeVar("R")

NO_OPTIONS: Mapping[str, Any] = {}
_SECONDS_ASIDE = 60.0
_MOST_ASIDE = 10
"""With more, the database refuses too much: the error is raised."""
_PASSES_AFTER = 5
"""Failures in a row after which an error that should pass counts as a refusal."""
_LONGEST_REASON = 500


class RefusedRows:
    """Jobs that operations pass over for a minute, because the database refuses to change them.

    An operation changes many rows in one statement, all or none. A trigger, a constraint or a foreign key of the user
    may refuse one of them, and then none is changed. The operation is run again on half as many rows, down to one. If
    that one is refused, it is set aside.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[int, float] = {}
        self._failures: dict[Callable[..., int | None], int] = {}

    def ids(self) -> list[int]:
        """Return the jobs that are set aside now."""
        now = self._clock()
        self._until = {job_id: until for job_id, until in self._until.items() if until > now}
        return list(self._until)

    async def work_around(
        self,
        run: Callable[..., Awaitable[Any]],
        operation: Callable[..., R],
        find_first: Callable[..., int | None],
        *,
        limit: int,
        options: Mapping[str, Any] = NO_OPTIONS,
        **arguments: Any,
    ) -> tuple[R, int]:
        """Run an operation on up to ``limit`` rows, or on fewer if the database refuses one of them.

        Parameters
        ----------
        run:
            Runs an operation on the database.
        operation:
            Takes ``limit``, ``set_aside``, ``options`` and ``arguments``. It changes all its rows or none.
        find_first:
            Takes ``set_aside`` and ``arguments``. It returns the id of the first row that ``operation`` would change.

        Returns
        -------
        What the operation returns, and the limit with which it succeeded.

        Raises
        ------
        ConnectorException
            The operation fails for another reason, or the database refuses too many rows.
        """
        smaller = limit
        while True:
            refused = self.ids()
            aside: dict[str, Any] = {"set_aside": refused} if refused else {}
            try:
                result = await run(operation, limit=smaller, **aside, **options, **arguments)
                self._failures.pop(find_first, None)
                return result, smaller
            except exceptions.ConnectorException as error:
                if not self._is_row_refused(find_first, error) or len(refused) >= _MOST_ASIDE:
                    raise
                if smaller == 1:
                    job_id = await run(find_first, **aside, **arguments)
                    if job_id is None:
                        raise
                    self.set_aside(job_id, error)
                    smaller = limit
                else:
                    smaller //= 2

    def _is_row_refused(self, find_first: Callable[..., int | None], error: BaseException) -> bool:
        """Return True if one row is refused. A user's trigger may raise the code of an error that passes each time."""
        if is_row_refused(error):
            return True
        if not is_refused_for_now(error):
            return False
        self._failures[find_first] = self._failures.get(find_first, 0) + 1
        return self._failures[find_first] > _PASSES_AFTER

    async def collect(
        self,
        run: Callable[..., Awaitable[Any]],
        operation: Callable[..., list[R]],
        find_first: Callable[..., int | None],
        *,
        limit: int,
        options: Mapping[str, Any] = NO_OPTIONS,
        **arguments: Any,
    ) -> list[R]:
        """Run an operation that returns its rows as :meth:`work_around` does, until it has changed ``limit`` rows.

        What was changed before an error is returned, and the next call meets the error again.
        """
        changed: list[R] = []
        while True:
            try:
                part, tried = await self.work_around(
                    run, operation, find_first, limit=limit - len(changed), options=options, **arguments
                )
            except exceptions.ConnectorException:
                if not changed:
                    raise
                return changed
            changed += part
            if len(part) < tried or len(changed) == limit:
                return changed

    def set_aside(self, job_id: int, error: BaseException) -> None:
        """Pass over a job for a minute, and log the refusal."""
        self._until[job_id] = self._clock() + _SECONDS_ASIDE
        logger.error(
            "The database refuses to change job %d, and other jobs go on. It is tried again in %.0f s: %s",
            job_id,
            _SECONDS_ASIDE,
            Cut(error, _LONGEST_REASON),
            extra={"action": "job_refused", "job_id": job_id},
        )
