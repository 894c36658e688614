"""Transactions that are committed in two phases. PostgreSQL does not prepare one that has notified."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def is_two_phase(connection: sa.Connection) -> bool:
    """Whether the open transaction is to be committed in two phases.

    It is known of SQLAlchemy's transactions (``begin_twophase()``, ``Session(twophase=True)``) and of psycopg's
    (``tpc_begin()``). psycopg2 does not tell.
    """
    if isinstance(connection.get_transaction(), sa.TwoPhaseTransaction):
        return True
    driver_connection: Any = connection.connection.dbapi_connection
    return getattr(driver_connection, "_tpc", None) is not None
