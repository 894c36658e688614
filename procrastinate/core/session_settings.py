"""Transaction settings that the triggers read, and the operations that change them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

_NOTIFY = sa.literal_column("'procrastinate.notify'", type_=sa.Text())
_HAND_OVER = sa.literal_column("'procrastinate.hand_over'", type_=sa.Text())
_RESTORING = sa.literal_column("'procrastinate.restoring'", type_=sa.Text())


def _set_for_transaction(name: sa.ColumnElement[str], value: str) -> sa.Select[Any]:
    return sa.select(sa.func.set_config(name, sa.literal_column(f"'{value}'"), sa.true()))


_NOTIFY_NOTHING = _set_for_transaction(_NOTIFY, "off")
_HAND_NOTHING_OVER = _set_for_transaction(_HAND_OVER, "off")
_HAND_OVER_AGAIN = _set_for_transaction(_HAND_OVER, "on")
_RESTORE = _set_for_transaction(_RESTORING, "on")
_RESTORE_NO_MORE = _set_for_transaction(_RESTORING, "off")


def notify_nothing(connection: sa.Connection) -> None:
    """Turn off notifications for the rest of this transaction. Workers find its jobs by polling."""
    connection.execute(_NOTIFY_NOTHING)


def may_notify() -> sa.ColumnElement[bool]:
    """Return the SQL condition "this transaction notifies"."""
    return sa.func.current_setting(_NOTIFY, sa.true(), type_=sa.Text()).is_distinct_from(sa.literal_column("'off'"))


def begin_restoring(connection: sa.Connection) -> None:
    """Write no history for the rest of this transaction: restored jobs bring their own."""
    connection.execute(_RESTORE)


def end_restoring(connection: sa.Connection) -> None:
    """Write history again."""
    connection.execute(_RESTORE_NO_MORE)


def hand_nothing_over(connection: sa.Connection) -> None:
    """Free no parked job for the rest of this transaction. The sweep of a worker frees it."""
    connection.execute(_HAND_NOTHING_OVER)


def hand_over_again(connection: sa.Connection) -> None:
    """Free the next parked job whenever a lock becomes free, as without these settings."""
    connection.execute(_HAND_OVER_AGAIN)
