"""Keeps a row that the database refuses to change from stopping the work on all others.

An operation changes many rows in one statement, all or none. A trigger, a constraint, a foreign key or a row-level
policy of the user may refuse one of them, and then none is changed. The operation is run again on half as many rows,
down to one. If that one is refused, it is set aside for a minute.

:class:`RefusedRows` decides what to try next, and :mod:`procrastinate._follow` runs it on a connector.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from procrastinate import core, exceptions
from procrastinate._quoting import Cut
from procrastinate._text.logs import Seldom, get_logger
from procrastinate.core.errors import (
    is_lock_timeout,
    is_refused_for_now,
    is_row_refused,
    is_statement_timeout,
    is_unique_violation,
)
from procrastinate.core.operation_marks import finder_of
from procrastinate.core.tries import Tries, Try

logger = get_logger(__name__)

R = TypeVar("R")

NO_OPTIONS: Mapping[str, Any] = {}
_SECONDS_ASIDE = 60.0
_MOST_IN_A_ROW = 20
"""With more, and no row accepted between them, the database refuses too much. The error is raised."""
_MOST_ASIDE = 10_000
_MOST_NAMED = 10
"""Refused rows that the log names in a minute. It counts the others."""
_PASSES_AFTER = 5
"""Failures in a row after which an error that should pass counts as a refusal."""
_LONGEST_REASON = 500


class _HasId(Protocol):
    @property
    def id(self) -> int: ...


Row = TypeVar("Row", bound=_HasId)


@dataclasses.dataclass
class _Memory:
    """What is known of the refused rows of one operation."""

    until: dict[int, float] = dataclasses.field(default_factory=dict)
    in_a_row: int = 0
    failures: int = 0
    at_once: int | None = None
    """The number of rows to begin with. It doubles until the operation takes all rows again."""


class RefusedRows:
    """The rows that operations pass over for a minute, because the database refuses to change them.

    Each operation has its own: a job that cannot be deleted may well be retried.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._memories: dict[str, _Memory] = {}
        self._named: list[float] = []
        self._unnamed = Seldom(logger, "The database refuses to change %d more rows. The last one: %s", "rows_refused")

    def work_around(
        self,
        operation: Callable[..., R],
        *,
        limit: int,
        options: Mapping[str, Any] = NO_OPTIONS,
        fewer_after_timeout: bool = False,
        **arguments: Any,
    ) -> Tries[tuple[R, int]]:
        """Run an operation on up to ``limit`` rows of its own choice, or on fewer if the database refuses one of them.

        Parameters
        ----------
        operation:
            It has a function that finds its first row
            (:func:`~procrastinate.core.operation_marks.finds_first_row_of`), which takes ``arguments`` as well.
        options:
            Arguments of the operation alone.
        fewer_after_timeout:
            Take fewer rows at once after a statement timeout. It is for operations that wait for no lock, so that only
            too many rows take too long.

        Returns
        -------
        What the operation returns, and the number of rows with which it succeeded.

        Raises
        ------
        ConnectorException
            The operation fails for another reason, or the database refuses too many rows.
        """
        find_first = finder_of(operation)
        assert find_first is not None, f"{operation.__name__} has no function that finds its first row"
        memory = self._memory(operation)
        at_once = min(memory.at_once or limit, limit)
        while True:
            refused = self._ids(memory)
            aside: dict[str, Any] = {"set_aside": refused} if refused else {}
            try:
                result = yield Try(operation, (), {"limit": at_once, **aside, **options, **arguments})
            except exceptions.ConnectorException as error:
                if not (fewer_after_timeout and at_once > 1 and is_statement_timeout(error)):
                    self._require_refused(memory, error)
                if at_once > 1:
                    at_once //= 2
                    continue
                one = {"limit": 1, **aside, **options, **arguments}
                try:
                    result = yield Try(core.without_hand_over, (operation,), one)
                except exceptions.ConnectorException as still:
                    self._require_refused(memory, still)
                    first = yield Try(find_first, (), {**aside, **arguments})
                    if first is None:
                        raise
                    self._set_aside(memory, first, still)
                    continue
            memory.failures = memory.in_a_row = 0
            memory.at_once = at_once * 2 if at_once < limit else None
            return result, at_once

    def collect(
        self,
        operation: Callable[..., list[R]],
        *,
        limit: int,
        options: Mapping[str, Any] = NO_OPTIONS,
        **arguments: Any,
    ) -> Tries[list[R]]:
        """Run an operation that returns its rows as :meth:`work_around` does, until it has changed ``limit`` rows.

        What was changed before an error is returned, and the next call meets the error again.
        """
        changed: list[R] = []
        while True:
            try:
                part, tried = yield from self.work_around(
                    operation, limit=limit - len(changed), options=options, **arguments
                )
            except exceptions.ConnectorException:
                if not changed:
                    raise
                return changed
            changed += part
            if len(part) < tried or len(changed) >= limit:
                return changed

    def in_parts(
        self,
        operation: Callable[..., R],
        rows: Sequence[Row],
        *,
        otherwise: Mapping[str, Any] = NO_OPTIONS,
        **options: Any,
    ) -> Tries[list[R]]:
        """Run an operation on rows that it is given, and on halves of them if the database refuses one of them.

        Parameters
        ----------
        operation:
            Its first argument is the rows. It changes all of them or none.
        otherwise:
            Options that avoid a lock timeout or a unique violation.

        Returns
        -------
        What the operation returns for each part.
        """
        memory = self._memory(operation)
        aside = set(self._ids(memory))
        results: list[R] = []
        parts = [[row for row in rows if row.id not in aside]]
        while parts and parts[-1]:
            part = parts.pop()
            try:
                results.append((yield from _with_other_options(operation, part, options, otherwise)))
            except exceptions.ConnectorException as error:
                self._require_refused(memory, error)
                middle = len(part) // 2
                if middle:
                    parts += [part[middle:], part[:middle]]
                    continue
                try:
                    results.append((yield Try(core.without_hand_over, (operation, part), options)))
                except exceptions.ConnectorException as still:
                    self._require_refused(memory, still)
                    self._set_aside(memory, part[0].id, still)
                    continue
            memory.failures = memory.in_a_row = 0
        return results

    def set_aside_by(self, operation: Callable[..., Any]) -> list[int]:
        """Return the ids of the rows that this operation passes over now."""
        return self._ids(self._memory(operation))

    def note(self, refused: Mapping[int, BaseException | str], operation: Callable[..., Any] | None = None) -> None:
        """Pass over rows that an operation has passed over by itself, and log each once a minute.

        Without an operation, they are logged only.
        """
        memory = self._memory(operation or self.note)
        known = self._ids(memory)
        for row_id, reason in refused.items():
            if row_id not in known:
                self._set_aside(memory, row_id, reason)

    def _memory(self, operation: Callable[..., Any]) -> _Memory:
        return self._memories.setdefault(operation.__name__, _Memory())

    def _ids(self, memory: _Memory) -> list[int]:
        """Return the rows that are set aside now."""
        if memory.until:
            now = self._clock()
            memory.until = {row_id: until for row_id, until in list(memory.until.items()) if until > now}
        return list(memory.until)

    def _require_refused(self, memory: _Memory, error: exceptions.ConnectorException) -> None:
        """Raise the error unless it says that one row is refused, and not too many are.

        A user's trigger may raise the code of an error that passes each time.
        """
        if is_refused_for_now(error) and not is_row_refused(error):
            memory.failures += 1
            if memory.failures <= _PASSES_AFTER:
                raise error
        elif not is_row_refused(error):
            raise error
        if memory.in_a_row >= _MOST_IN_A_ROW or len(memory.until) >= _MOST_ASIDE:
            memory.in_a_row = 0
            raise error

    def _set_aside(self, memory: _Memory, row_id: int, why: BaseException | str) -> None:
        """Pass over a row for a minute, and log the refusal."""
        now = self._clock()
        memory.until[row_id] = now + _SECONDS_ASIDE
        memory.in_a_row += 1
        self._named = [at for at in self._named if at > now - _SECONDS_ASIDE]
        if len(self._named) >= _MOST_NAMED:
            self._unnamed.note(why)
            return
        self._named.append(now)
        logger.error(
            "The database refuses to change the row with id %d, and others go on. It is tried again in %.0f s: %s",
            row_id,
            _SECONDS_ASIDE,
            Cut(why, _LONGEST_REASON),
            extra={"action": "job_refused", "job_id": row_id},
        )


def _with_other_options(
    operation: Callable[..., R], part: Sequence[Any], options: Mapping[str, Any], otherwise: Mapping[str, Any]
) -> Tries[R]:
    try:
        result: R = yield Try(operation, (part,), options)
    except exceptions.ConnectorException as error:
        if is_row_refused(error) or not otherwise or not (is_lock_timeout(error) or is_unique_violation(error)):
            raise
        result = yield Try(operation, (part,), {**options, **otherwise})
    return result
