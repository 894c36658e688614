"""Keeps a row that the database refuses to change from stopping the others of the same transaction.

A trigger, a constraint or a row-level policy of the user may refuse one row. The statement then changes none. An
operation that is given its rows changes them in parts, each in a savepoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from procrastinate.core.errors import is_row_refused
from procrastinate.core.operation_marks import atomic
from procrastinate.core.session_settings import hand_nothing_over, hand_over_again

R = TypeVar("R")
Change = Callable[[Sequence[int]], Iterable[R]]
"""Changes the rows with these ids, all or none, and returns what came of them."""


class Changer(Protocol):
    """Applies a change to rows."""

    refused: dict[int, str]
    """The rows that the database refuses to change, with its messages."""

    def change(self, ids: Sequence[int], change: Change[R]) -> list[R]:
        """Change the rows with these ids, and return what came of those that were changed."""
        ...


class AtOnce:
    """Applies a change to all rows at once. A refused row raises the error of the database."""

    def __init__(self) -> None:
        self.refused: dict[int, str] = {}

    def change(self, ids: Sequence[int], change: Change[R]) -> list[R]:
        """Change all rows."""
        return list(change(ids))


class InParts:
    """Applies a change to all rows, and to halves of them if the database refuses one, down to that one.

    It needs a transaction, because each try has a savepoint.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self.refused: dict[int, str] = {}

    def change(self, ids: Sequence[int], change: Change[R]) -> list[R]:
        """Change all rows but those that are refused."""
        changed: list[R] = []
        parts = [list(ids)]
        while parts:
            part = parts.pop()
            try:
                changed += self._try(part, change)
            except Exception as error:
                if not is_row_refused(error):
                    raise
                middle = len(part) // 2
                if middle:
                    parts += [part[middle:], part[:middle]]
                else:
                    changed += self._try_alone(part, change)
        return changed

    def _try(self, part: Sequence[int], change: Change[R]) -> list[R]:
        with self._connection.begin_nested():
            return list(change(part))

    def _try_alone(self, part: Sequence[int], change: Change[R]) -> list[R]:
        """Change one row without its hand-over: perhaps not this row is refused, but the one that waits for it."""
        try:
            with self._connection.begin_nested():
                hand_nothing_over(self._connection)
                changed = list(change(part))
        except Exception as error:
            if not is_row_refused(error):
                raise
            self.refused[part[0]] = str(getattr(error, "orig", None) or error).strip()
            return []
        hand_over_again(self._connection)
        return changed


@atomic
def without_hand_over(connection: sa.Connection, operation: Callable[..., R], *arguments: Any, **options: Any) -> R:
    """Run an operation on jobs without handing their locks to the jobs that wait for them.

    The triggers change the next job of a lock in the statement that frees it. If the database refuses to change that
    job, the statement fails. Without the hand-over the next sweep frees the job, or passes it over.
    """
    hand_nothing_over(connection)
    return operation(connection, *arguments, **options)
