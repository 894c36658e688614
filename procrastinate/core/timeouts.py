"""How long an operation waits for others, and others for it.

All of it is set for one transaction, never for a session: behind a pooler, a session is shared with others.
"""

from __future__ import annotations

import sqlalchemy as sa

BRIEFLY = "500ms"
"""How long an operation waits for a lock that an open transaction holds, where it can do without."""

LONGEST_PAUSE = 3.0
"""Seconds that a worker may let its transaction rest between two statements. Its rows stay locked in that time."""


def _lock_timeout() -> sa.Select[tuple[str]]:
    return sa.select(sa.func.set_config("lock_timeout", BRIEFLY, sa.true(), type_=sa.Text()))


def waits_briefly() -> sa.ColumnElement[bool]:
    """A condition that always holds, for a statement that is to wait briefly.

    PostgreSQL evaluates it once, before it reads the first row. So one statement says all, and needs no transaction of
    its own: a worker that is frozen cannot leave one open.
    """
    return _lock_timeout().scalar_subquery().is_not(None)


def wait_briefly(connection: sa.Connection) -> None:
    """For the rest of this transaction, wait no longer than half a second for a lock of another session."""
    connection.execute(_WAIT_BRIEFLY)


_WAIT_BRIEFLY = _lock_timeout()


def end_when_left_alone(connection: sa.Connection) -> None:
    """Let the server end this transaction if its next statement does not come soon.

    The worker may be frozen. Its rows stay locked for as long as its connection is there. A
    shorter time that is set already stays.
    """
    connection.execute(_END_WHEN_LEFT_ALONE)


def _idle_timeout() -> sa.Select[tuple[str]]:
    name = "idle_in_transaction_session_timeout"
    given = sa.cast(sa.func.current_setting(name), sa.Interval())
    milliseconds = sa.cast(sa.extract("epoch", given) * 1000, sa.Integer())
    shortest = sa.func.least(sa.func.nullif(milliseconds, 0), int(LONGEST_PAUSE * 1000))
    return sa.select(sa.func.set_config(name, sa.cast(shortest, sa.Text()), sa.true(), type_=sa.Text()))


_END_WHEN_LEFT_ALONE = _idle_timeout()
