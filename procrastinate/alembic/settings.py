"""What every way of running the migrations agrees on."""

from __future__ import annotations

import pathlib

import sqlalchemy as sa

VERSION_TABLE = "procrastinate_alembic_version"
"""Its own, so that it never meets the user's ``alembic_version``."""

SCRIPT_LOCATION = pathlib.Path(__file__).parent
VERSIONS_LOCATION = SCRIPT_LOCATION / "versions"

_LOCK_CLASS = 0x70726F63
_MIGRATION_LOCK = 1


def hold_migration_lock(connection: sa.Connection) -> None:
    """Let one process migrate at a time: the others wait here, and then find nothing left to do.

    The lock ends with the transaction.
    """
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_CLASS, _MIGRATION_LOCK)))
