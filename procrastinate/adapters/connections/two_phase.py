"""Two-phase commits. PostgreSQL cannot prepare a transaction that has executed NOTIFY."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def is_two_phase(connection: sa.Connection) -> bool:
    """Return true if the open transaction is a two-phase transaction.

    This detects transactions of SQLAlchemy (``begin_twophase()``, ``Session(twophase=True)``) and psycopg
    (``tpc_begin()``). psycopg2 does not report them.
    """
    if isinstance(connection.get_transaction(), sa.TwoPhaseTransaction):
        return True
    driver_connection: Any = connection.connection.dbapi_connection
    return getattr(driver_connection, "_tpc", None) is not None
