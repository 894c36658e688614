"""Runs the migrations on the connection handed over by :mod:`procrastinate.alembic.upgrades`.

Also usable from the ``alembic`` command, with ``-x url=postgresql+psycopg://...``.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from procrastinate.alembic.settings import VERSION_TABLE, hold_fetches_of_3x, hold_migration_lock
from procrastinate.core.tables import metadata


def _migrate(connection: sa.Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, version_table=VERSION_TABLE)
    with context.begin_transaction():
        hold_migration_lock(connection)
        hold_fetches_of_3x(connection)
        context.run_migrations()


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
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        transactional_ddl=context.config.attributes.get("transactional", True),
    )
    with context.begin_transaction():
        context.run_migrations()


handed_over = context.config.attributes.get("connection")
if context.is_offline_mode():
    _write_sql()
elif handed_over is not None:
    _migrate(handed_over)
else:
    _migrate_from_command_line()
