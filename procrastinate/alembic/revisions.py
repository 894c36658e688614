"""Which revisions this release knows, at which one a database is, and whether its tables fit."""

from __future__ import annotations

import enum
import functools
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from procrastinate import exceptions
from procrastinate.alembic.script_files import revision_modules, script_location
from procrastinate.alembic.settings import VERSION_TABLE
from procrastinate.core.operation_marks import plain
from procrastinate.core.tables import jobs, metadata

if TYPE_CHECKING:
    from alembic.config import Config

_versions = sa.table(VERSION_TABLE, sa.column("version_num", sa.String))
_types = sa.table("pg_type", sa.column("typname", sa.String), sa.column("typnamespace"), schema="pg_catalog")
_classes = sa.table(
    "pg_class",
    sa.column("oid", postgresql.OID),
    sa.column("relname", sa.String),
    sa.column("relnamespace", postgresql.OID),
    schema="pg_catalog",
)
_namespaces = sa.table(
    "pg_namespace", sa.column("oid", postgresql.OID), sa.column("nspname", sa.String), schema="pg_catalog"
)
# Of information_schema, a role sees only the columns that it has rights on.
_attributes = sa.table(
    "pg_attribute",
    sa.column("attrelid", postgresql.OID),
    sa.column("attname", sa.String),
    sa.column("attnum", sa.SmallInteger),
    sa.column("attisdropped", sa.Boolean),
    schema="pg_catalog",
)
_triggers = sa.table(
    "pg_trigger", sa.column("tgrelid", postgresql.OID), sa.column("tgname", sa.String), schema="pg_catalog"
)
_OWN_TYPES = [*metadata.tables, "procrastinate_job_status", "procrastinate_job_event_type"]
"""Each table has a type of its name."""


_version_table = sa.cast(sa.func.to_regclass(sa.literal(VERSION_TABLE, sa.Text())), postgresql.OID)
_may_read = sa.func.has_table_privilege(_version_table, sa.literal("SELECT", sa.Text()))
_IS_READABLE = plain(sa.select(_may_read.label("is_readable")))
_VERSION = plain(sa.select(_versions.c.version_num))


def alembic_config() -> Config:
    """Return an Alembic configuration that finds this project's revisions, wherever it is installed."""
    from alembic.config import Config  # few programs need it, and it takes long to load

    config = Config()
    # Alembic interpolates its configuration: a percent sign in the path must be doubled.
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@functools.cache
def known_revisions() -> tuple[str, ...]:
    """Return the revisions that this release knows, oldest first.

    The names of their files tell them. A worker and a health check ask at each start, and Alembic would load all files.
    """
    return tuple(f"procrastinate_{name[1:5]}" for name in revision_modules())


def head_revision() -> str:
    """Return the newest revision that this release knows."""
    return known_revisions()[-1]


def current_revision(connection: sa.Connection) -> str | None:
    """Return the revision of the database; ``None`` where none is written down, or this role may not read it."""
    if not connection.execute(_IS_READABLE).scalar_one():
        return None
    return connection.execute(_VERSION).scalars().first()


def is_at_least(connection: sa.Connection, revision: str) -> bool:
    """Return whether the database has this revision or a newer one. A revision of a newer release is newer."""
    current = current_revision(connection)
    if current is None:
        return False
    known = known_revisions()
    return current not in known or known.index(current) >= known.index(revision)


def is_after(revision: str, other: str) -> bool:
    """Return whether a revision of this release's comes after another one."""
    known = known_revisions()
    return known.index(revision) > known.index(other)


def next_revision(revision: str) -> str:
    """Return the revision that follows, or the newest one if none does or this release does not know the revision."""
    known = known_revisions()
    if revision not in known:
        return head_revision()
    return known[min(known.index(revision) + 1, len(known) - 1)]


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
    if stage_of_tables(connection, in_current_schema=True) is not None:
        raise exceptions.TablesOf3x
    name_it = (
        f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (version_num VARCHAR(32) PRIMARY KEY); "  # noqa: S608
        f"INSERT INTO {VERSION_TABLE} VALUES ('{head_revision()}');"
    )
    raise exceptions.SchemaConflict(
        f"There are {', '.join(found)} here already, and {VERSION_TABLE} does not name their revision. "
        f"If they are as this release makes them, name it, and repeat: {name_it} "
        "If they are remains of something else, drop them, and repeat"
    )


def fit_revision(connection: sa.Connection) -> str | None:
    """Return the revision of the database, as :func:`current_revision`. Without one, the tables are looked at.

    Raises
    ------
    TablesOf3x
        The tables are those of Procrastinate 3.x.
    SchemaNotApplied
        A table is missing, or a column of one.
    """
    current = current_revision(connection)
    if current is None:
        refuse_3x(connection)
        missing = _missing(connection)
        if missing:
            raise exceptions.SchemaNotApplied(_missing_text(connection, missing))
    return current


def refuse_3x(connection: sa.Connection) -> None:
    """Refuse the tables of Procrastinate 3.x, and those that are half upgraded.

    Raises
    ------
    TablesOf3x
        Statements on this connection find those.
    """
    if stage_of_tables(connection) is not None:
        raise exceptions.TablesOf3x


class Stage(enum.Enum):
    """How far tables of Procrastinate 3.x are upgraded."""

    OF_3X = "its triggers are at work, or there are no columns of ours"
    UNSETTLED = "our triggers are at work, and no revision is written down yet"


def stage_of_tables(connection: sa.Connection, *, in_current_schema: bool = False) -> Stage | None:
    """Return the stage of the tables that statements on this connection find; ``None`` for none, and for our own.

    Parameters
    ----------
    in_current_schema:
        Look only where new tables would be made, and not in the whole search path.
    """
    columns = _columns_of(connection, jobs.name, in_current_schema=in_current_schema)
    if not columns or connection.execute(_IS_STAMPED).scalar_one():
        return None
    if jobs.c.readiness.name not in columns or connection.execute(_HAS_TRIGGER_OF_3X).scalar_one():
        return Stage.OF_3X
    return Stage.UNSETTLED if connection.execute(_HAS_COPIES).scalar_one() else None


_IS_STAMPED = sa.select(sa.func.to_regclass(sa.literal(VERSION_TABLE, sa.Text())).is_not(None))
_HAS_COPIES = sa.select(sa.func.to_regproc(sa.literal("procrastinate_fetch_job_v2_of_3x", sa.Text())).is_not(None))
_HAS_TRIGGER_OF_3X = sa.select(
    sa.exists().where(
        _triggers.c.tgrelid == sa.cast(sa.func.to_regclass(sa.literal(jobs.name, sa.Text())), postgresql.OID),
        _triggers.c.tgname == "procrastinate_trigger_status_events_insert_v1",
    )
)


def _missing(connection: sa.Connection) -> list[str]:
    """Return our tables that statements on this connection do not find, and the columns that are missing."""
    missing: list[str] = []
    for table in metadata.sorted_tables:
        found = _columns_of(connection, table.name)
        lacks = [f"{table.name}.{column.name}" for column in table.columns if column.name not in found]
        missing += lacks if found else [table.name]
    return missing


def _missing_text(connection: sa.Connection, missing: list[str]) -> str:
    text = exceptions.SchemaNotApplied.default_message()
    schemas = list(connection.execute(_SCHEMAS).scalars()) if jobs.name in missing else []
    lacks_all = missing == [table.name for table in metadata.sorted_tables]
    if lacks_all and not schemas:
        return f"The database has no tables of Procrastinate: {exceptions.SchemaNotApplied.advice}"
    if not lacks_all:
        text += f" Missing: {', '.join(missing)}."
    if not schemas:
        return text
    return (
        f"{text} There is a {jobs.name} in the schema {', '.join(schemas)}: this connection does not look there "
        "(search_path), or its role may not (GRANT USAGE ON SCHEMA)"
    )


_SCHEMAS = (
    sa.select(_namespaces.c.nspname)
    .join(_classes, _classes.c.relnamespace == _namespaces.c.oid)
    .where(_classes.c.relname == jobs.name)
    .order_by(_namespaces.c.nspname)
)


def _own_types(connection: sa.Connection) -> list[str]:
    """Return those of our tables and types that are in the schema where ours would be made."""
    schema = sa.cast(sa.func.to_regnamespace(sa.func.quote_ident(sa.func.current_schema())), postgresql.OID)
    names = sa.select(_types.c.typname).where(_types.c.typname.in_(_OWN_TYPES), _types.c.typnamespace == schema)
    return sorted(connection.execute(names).scalars())


def _columns_of(connection: sa.Connection, table: str, *, in_current_schema: bool = False) -> set[str]:
    """Return the columns of a table, whatever rights this role has on it; none where there is no such table."""
    name: sa.ColumnElement[str] = sa.bindparam("name", table, type_=sa.Text())
    if in_current_schema:
        name = sa.func.concat(sa.func.quote_ident(sa.func.current_schema()), ".", name)
    found = sa.select(_attributes.c.attname).where(
        _attributes.c.attrelid == sa.cast(sa.func.to_regclass(name), postgresql.OID),
        _attributes.c.attnum > 0,
        sa.not_(_attributes.c.attisdropped),
    )
    return set(connection.execute(found).scalars())
