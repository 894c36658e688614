"""Runs the migrations on the connection handed over by :mod:`procrastinate.alembic.upgrades`.

Also usable from the ``alembic`` command, with ``-x url=postgresql+psycopg://...``.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from procrastinate.alembic.settings import (
    FETCHES_LOCK_KEY,
    HOLD_LATE_FETCHES,
    VERSION_TABLE,
    hold_fetches_of_3x,
    hold_late_fetches_of_3x,
    hold_migration_lock,
)
from procrastinate.core.tables import metadata


def _migrate(connection: sa.Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, version_table=VERSION_TABLE)
    with context.begin_transaction():
        hold_migration_lock(connection)
        columns = hold_fetches_of_3x(connection)
        context.run_migrations()
        hold_late_fetches_of_3x(connection, columns)


def _migrate_from_command_line() -> None:
    url = context.get_x_argument(as_dictionary=True).get("url")
    if url is None:
        raise SystemExit("Say which database: alembic -x url=postgresql+psycopg://user@host/name upgrade head")
    engine = sa.create_engine(url, client_encoding="utf8")  # a database in SQL_ASCII has bytes for text otherwise
    with engine.connect() as connection:
        _migrate(connection)
    engine.dispose()


def _write_sql() -> None:
    # Without "paramstyle", every percent sign of a trigger function would be written twice.
    is_transactional = context.config.attributes.get("transactional", True)
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        transactional_ddl=is_transactional,
    )
    # A script for an empty database meets no program of 3.x. Who opens the transaction also holds fetches: Django does.
    holds_fetches = is_transactional and context.get_starting_revision_argument() not in {None, "base"}
    with context.begin_transaction():
        if holds_fetches:
            context.static_output(f"SELECT pg_advisory_xact_lock({FETCHES_LOCK_KEY});\n")
        context.run_migrations()
        if holds_fetches:
            context.static_output(f"DO $do$\nBEGIN{HOLD_LATE_FETCHES};\nEND\n$do$;\n")


handed_over = context.config.attributes.get("connection")
if context.is_offline_mode():
    _write_sql()
elif handed_over is not None:
    _migrate(handed_over)
else:
    _migrate_from_command_line()
