"""Which revisions this release knows, at which one a database is, and what keeps it from being upgraded."""

from __future__ import annotations

import functools

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql

from procrastinate import exceptions
from procrastinate.alembic.settings import SCRIPT_LOCATION, VERSION_TABLE
from procrastinate.core.tables import jobs, metadata

_versions = sa.table(VERSION_TABLE, sa.column("version_num", sa.String))
_types = sa.table("pg_type", sa.column("typname", sa.String), sa.column("typnamespace"), schema="pg_catalog")
_columns = sa.table(
    "columns",
    sa.column("table_schema", sa.String),
    sa.column("table_name", sa.String),
    sa.column("column_name", sa.String),
    schema="information_schema",
)
_OWN_TYPES = [*metadata.tables, "procrastinate_job_status", "procrastinate_job_event_type"]
"""Each table has a type of its name."""


def alembic_config() -> Config:
    """An Alembic configuration that finds this project's revisions, wherever it is installed."""
    config = Config()
    # Alembic interpolates its configuration: a percent sign in the path must be doubled.
    config.set_main_option("script_location", str(SCRIPT_LOCATION).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@functools.cache
def known_revisions() -> tuple[str, ...]:
    """The revisions that this release knows, oldest first."""
    script = ScriptDirectory.from_config(alembic_config())
    return tuple(reversed([revision.revision for revision in script.walk_revisions()]))


def head_revision() -> str:
    """The newest revision that this release knows."""
    return known_revisions()[-1]


def current_revision(connection: sa.Connection) -> str | None:
    """The revision of the database; ``None`` where none is written down, or this role may not read it."""
    table = sa.cast(sa.func.to_regclass(sa.literal(VERSION_TABLE, sa.Text())), postgresql.OID)
    readable = sa.select(sa.func.has_table_privilege(table, sa.literal("SELECT", sa.Text())))
    if not connection.execute(readable).scalar_one():
        return None
    return connection.execute(sa.select(_versions.c.version_num)).scalars().first()


def refuse_conflicts(connection: sa.Connection) -> None:
    """Refuse to upgrade a database where that must fail, and say what to do instead.

    Raises
    ------
    SchemaConflict
        A newer release has applied its schema; or there are tables without a revision.
    """
    current = current_revision(connection)
    if current is None:
        _refuse_what_is_there(connection)
    elif current not in known_revisions():
        raise exceptions.SchemaConflict(
            f"The schema is at revision {current}, which this release does not know (its newest is {head_revision()}): "
            "a newer release has applied it. There is nothing to apply: this release runs on the newer schema. "
            "To go back for good, downgrade the schema with the newer release, first"
        )


def _refuse_what_is_there(connection: sa.Connection) -> None:
    found = _own_types(connection)
    if not found:
        return
    there = f"There are {', '.join(found)} here already, and {VERSION_TABLE} does not say of which revision. "
    if jobs.name in found and not _has_column(connection, jobs.name, jobs.c.readiness.name):
        raise exceptions.SchemaConflict(
            f"{there}They are of Procrastinate 3.x, whose tables cannot be taken over: let its workers finish their "
            "jobs, and drop them; or apply the schema to another database, or another PostgreSQL schema (search_path)"
        )
    say_so = (
        f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (version_num VARCHAR(32) PRIMARY KEY); "  # noqa: S608
        f"INSERT INTO {VERSION_TABLE} VALUES ('{head_revision()}');"
    )
    raise exceptions.SchemaConflict(
        f"{there}If they are as this release makes them, say so, and repeat: {say_so} "
        "If they are what is left of something, drop them, and repeat"
    )


def _own_types(connection: sa.Connection) -> list[str]:
    """Those of our tables and types that are in the schema where ours would be made."""
    schema = sa.cast(sa.func.to_regnamespace(sa.func.quote_ident(sa.func.current_schema())), postgresql.OID)
    names = sa.select(_types.c.typname).where(_types.c.typname.in_(_OWN_TYPES), _types.c.typnamespace == schema)
    return sorted(connection.execute(names).scalars())


def _has_column(connection: sa.Connection, table: str, column: str) -> bool:
    found = sa.select(
        sa.exists().where(
            _columns.c.table_schema == sa.func.current_schema(),
            _columns.c.table_name == table,
            _columns.c.column_name == column,
        )
    )
    return bool(connection.execute(found).scalar_one())
