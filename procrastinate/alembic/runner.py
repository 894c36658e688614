"""Operations on the schema itself: bring it to a revision, tell its revision, print its SQL."""

from __future__ import annotations

import io
from collections.abc import Callable

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from procrastinate.alembic.settings import SCRIPT_LOCATION, VERSION_TABLE, hold_migration_lock
from procrastinate.core.operation import atomic


def alembic_config() -> Config:
    """An Alembic configuration that finds this project's revisions, wherever it is installed."""
    config = Config()
    # Alembic interpolates its configuration: a percent sign in the path must be doubled.
    config.set_main_option("script_location", str(SCRIPT_LOCATION).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def head_revision() -> str:
    """The newest revision that this release knows."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert head is not None
    return head


def older_revisions() -> set[str]:
    """The revisions before the newest."""
    script = ScriptDirectory.from_config(alembic_config())
    return {revision.revision for revision in script.walk_revisions()} - {head_revision()}


def current_revision(connection: sa.Connection) -> str | None:
    """The revision of the database; ``None`` where the schema has not been applied."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


@atomic
def upgrade(connection: sa.Connection, revision: str = "head") -> None:
    """Bring the database to a revision. Safe when several processes do it at once: one does, the others wait."""
    hold_migration_lock(connection)
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


@atomic
def downgrade(connection: sa.Connection, revision: str) -> None:
    """Take the database back to a revision; ``base`` removes everything."""
    hold_migration_lock(connection)
    config = alembic_config()
    config.attributes["connection"] = connection
    command.downgrade(config, revision)


def upgrade_sql(start: str = "base", end: str = "head", *, transactional: bool = True) -> str:
    """The SQL that brings a database from one revision to another, as a script.

    Parameters
    ----------
    transactional:
        With ``BEGIN`` and ``COMMIT``; without them, for whoever brings a transaction of his own.
    """
    return _offline(command.upgrade, f"{start}:{end}", transactional)


def downgrade_sql(start: str, end: str = "base", *, transactional: bool = True) -> str:
    """The SQL that takes a database back from one revision to another, as a script."""
    return _offline(command.downgrade, f"{start}:{end}", transactional)


def _offline(run: Callable[..., None], revisions: str, transactional: bool) -> str:
    config = alembic_config()
    config.output_buffer = io.StringIO()
    config.attributes["transactional"] = transactional
    run(config, revisions, sql=True)
    return config.output_buffer.getvalue()
