"""Run checks one after the other in a read-only transaction. A check that fails does not end the others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa

from procrastinate.core.errors import translate

R = TypeVar("R")

_BEGIN, _UNDO = sa.text("SAVEPOINT procrastinate_reading"), sa.text("ROLLBACK TO SAVEPOINT procrastinate_reading")
_BEGIN_CHECK, _UNDO_CHECK = (
    sa.text("SAVEPOINT procrastinate_check"),
    sa.text("ROLLBACK TO SAVEPOINT procrastinate_check"),
)
_READ_ONLY = sa.select(sa.func.set_config("transaction_read_only", "on", sa.true()))


class NotSeen(Exception):
    """Raised by a check that cannot be made in full, for want of a right. The text says what the role does not see."""


@contextlib.contextmanager
def reading_only(connection: sa.Connection) -> Iterator[None]:
    """Let the transaction only read while the block lasts. The user's transaction may write again after it."""
    connection.execute(_BEGIN)
    try:
        connection.execute(_READ_ONLY)
        yield
    finally:
        connection.execute(_UNDO)


def attempt(connection: sa.Connection, check: Callable[[], R]) -> tuple[R | None, str | None]:
    """Return the answer of a check and ``None``, or ``None`` and the database's reason why it could not be made."""
    connection.execute(_BEGIN_CHECK)
    try:
        return check(), None
    except NotSeen as error:
        return None, str(error)
    except sa.exc.SQLAlchemyError as error:
        connection.execute(_UNDO_CHECK)
        return None, str(translate(error))
    except Exception as error:
        if not _is_of_driver(error):
            raise
        connection.execute(_UNDO_CHECK)
        return None, str(translate(error))


def name_of(check: Callable[..., Any]) -> str:
    """Return the first sentence of a check's docstring, which names it for people."""
    return (check.__doc__ or check.__name__).split(".")[0]


def _is_of_driver(error: Exception) -> bool:
    """Return true if a driver raised the error: its class derives from one that is named as DB-API wants."""
    return any(one.__name__ in ("DatabaseError", "ConnectorException", "PostgresError") for one in type(error).__mro__)
