"""What every way of running the migrations agrees on."""

from __future__ import annotations

import pathlib

import sqlalchemy as sa

from procrastinate._text.logs import get_logger

VERSION_TABLE = "procrastinate_alembic_version"
"""Its own, so that it never meets the user's ``alembic_version``."""

SCRIPT_LOCATION = pathlib.Path(__file__).parent
VERSIONS_LOCATION = SCRIPT_LOCATION / "versions"

_LOCK_CLASS = 0x70726F63
_MIGRATION_LOCK = 1
_FETCHES_LOCK = 2
MIGRATION_LOCK_KEY = f"{_LOCK_CLASS}, {_MIGRATION_LOCK}"
"""The key of the advisory lock that a migration holds, for SQL that takes it itself."""
FETCHES_LOCK_KEY = f"{_LOCK_CLASS}, {_FETCHES_LOCK}"
"""The key of the advisory lock by which fetches of Procrastinate 3.x know that the columns of the jobs may change."""


_logger = get_logger(__name__)

_TRY = sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK_CLASS, _MIGRATION_LOCK))
_HOLD_FETCHES = sa.select(sa.func.pg_advisory_xact_lock(_LOCK_CLASS, _FETCHES_LOCK))
_WAIT = sa.select(sa.func.pg_advisory_xact_lock(_LOCK_CLASS, _MIGRATION_LOCK))
# An advisory lock does not let the session hear what other sessions have created: `to_regclass` would still say that
# their tables do not exist. The first lock on a table does. No other statement of a migration reads this one.
_HEAR_OF_NEW_TABLES = sa.text("SELECT FROM pg_catalog.pg_tablespace LIMIT 0")
_HOLDERS = sa.text(
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = :class AND objid = :lock "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
).bindparams(**{"class": _LOCK_CLASS, "lock": _MIGRATION_LOCK})


def hold_migration_lock(connection: sa.Connection) -> None:
    """Let one process migrate at a time: the others wait here, and then find nothing left to do.

    The lock ends with the transaction. Any session can hold it, so one that waits says for which.
    """
    if connection.execute(_TRY).scalar_one():
        return
    holders = ", ".join(str(pid) for pid in connection.execute(_HOLDERS).scalars())
    _logger.warning(
        "Another session migrates, or holds the advisory lock of migrations. This one waits for it: server process %s",
        holders or "(gone)",
        extra={"action": "migration_waits"},
    )
    connection.execute(_WAIT)
    connection.execute(_HEAR_OF_NEW_TABLES)


def hold_fetches_of_3x(connection: sa.Connection) -> None:
    """Let workers of Procrastinate 3.x fetch nothing until the transaction ends. What they fetch just now ends first.

    A fetch that waits for a new column of the jobs would return it to a query that does not expect it, and the worker
    would end.
    """
    connection.execute(_HOLD_FETCHES)
