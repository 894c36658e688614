"""Limits for how long an operation waits for other sessions, and other sessions for it.

Every limit applies to one transaction and never to a session: behind a pooler, other clients share the session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from procrastinate.core.operation_marks import atomic, plain

R = TypeVar("R")

BRIEFLY = "500ms"
"""Lock timeout for operations that can do without a lock that an open transaction holds."""

LONGEST_PAUSE = 3.0
"""Seconds that a worker's transaction may be idle between two statements. Its rows stay locked during that time."""

LONGEST_CHECK = "5s"
"""Statement timeout of a check that is killed if it takes long. The server does not notice that."""


def _lock_timeout() -> sa.Select[tuple[str]]:
    return sa.select(sa.func.set_config("lock_timeout", BRIEFLY, sa.true(), type_=sa.Text()))


def waits_briefly() -> sa.ColumnElement[bool]:
    """Return a condition that is always true and sets the short lock timeout.

    PostgreSQL evaluates it once, before it reads the first row. One statement is enough and needs no explicit
    transaction, so a frozen worker cannot leave one open.
    """
    return _lock_timeout().scalar_subquery().is_not(None)


def wait_briefly(connection: sa.Connection) -> None:
    """Limit lock waits to half a second for the rest of this transaction."""
    connection.execute(_WAIT_BRIEFLY)


_WAIT_BRIEFLY = plain(_lock_timeout())
_READ_LOCK_TIMEOUT = plain(sa.select(sa.func.current_setting("lock_timeout", type_=sa.Text())))
_RESTORE_LOCK_TIMEOUT = plain(
    sa.select(sa.func.set_config("lock_timeout", sa.bindparam("before", type_=sa.Text()), sa.true(), type_=sa.Text()))
)


@atomic
def briefly(connection: sa.Connection, operation: Callable[..., R], *arguments: Any, **options: Any) -> R:
    """Run an operation that waits at most half a second for each lock, also for that of a whole table.

    After the operation, the timeout of the transaction is as it was. If a lock is not to be had, the operation fails
    with a lock timeout (:func:`~procrastinate.core.errors.is_lock_timeout`).
    """
    before = connection.execute(_READ_LOCK_TIMEOUT).scalar_one()
    wait_briefly(connection)
    answer = operation(connection, *arguments, **options)
    connection.execute(_RESTORE_LOCK_TIMEOUT, {"before": before})
    return answer


def check_soon(connection: sa.Connection) -> None:
    """Let the server end a statement of this transaction that takes longer than :data:`LONGEST_CHECK`."""
    connection.execute(_CHECK_SOON)


_CHECK_SOON = plain(sa.select(sa.func.set_config("statement_timeout", LONGEST_CHECK, sa.true(), type_=sa.Text())))


def end_when_left_alone(connection: sa.Connection) -> None:
    """Let the server end this transaction if its next statement does not come soon.

    The rows of a frozen worker stay locked as long as its connection exists. A shorter timeout of the session stays in
    effect.
    """
    connection.execute(_END_WHEN_LEFT_ALONE)


def _idle_timeout() -> sa.Select[tuple[str]]:
    name = "idle_in_transaction_session_timeout"
    given = sa.cast(sa.func.current_setting(name), sa.Interval())
    milliseconds = sa.cast(sa.extract("epoch", given) * 1000, sa.Integer())
    shortest = sa.func.least(sa.func.nullif(milliseconds, 0), int(LONGEST_PAUSE * 1000))
    return sa.select(sa.func.set_config(name, sa.cast(shortest, sa.Text()), sa.true(), type_=sa.Text()))


_END_WHEN_LEFT_ALONE = plain(_idle_timeout())
