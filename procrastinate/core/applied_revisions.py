"""Which revisions of the schema the database says that it has: in a table of this project, or in Django's list."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

_ALEMBIC, _DJANGO = "procrastinate_alembic_version", "django_migrations"
_FIRST_MIGRATION = 1000
"""The number of the migration that is the first revision. Those before it are of Procrastinate 3.x."""
_versions = sa.table(_ALEMBIC, sa.column("version_num", sa.Text()))
_migrations = sa.table(_DJANGO, sa.column("app", sa.Text()), sa.column("name", sa.Text()))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """The revisions that the database has. ``source`` is the table that says so."""

    source: str
    names: tuple[str, ...]


def read_applied(connection: sa.Connection) -> Applied | None:
    """Return the revisions that the database has, or ``None`` if no table says them.

    Alembic writes the newest revision, and Django each migration. A migration has the number of its revision plus 1000.
    """
    if _exists(connection, _ALEMBIC):
        return Applied(source=_ALEMBIC, names=tuple(connection.execute(sa.select(_versions.c.version_num)).scalars()))
    if not _exists(connection, _DJANGO):
        return None
    ours = sa.select(_migrations.c.name).where(_migrations.c.app == sa.literal_column("'procrastinate'"))
    names = [name for name in connection.execute(ours).scalars() if _number(name) >= _FIRST_MIGRATION]
    if not names:
        return None
    return Applied(source=_DJANGO, names=tuple(sorted(_revision(name) for name in names)))


def _exists(connection: sa.Connection, table: str) -> bool:
    statement = sa.select(sa.func.to_regclass(sa.literal_column(f"'{table}'")).is_not(None))
    return bool(connection.execute(statement).scalar_one())


def _number(name: str) -> int:
    head = name.partition("_")[0]
    return int(head) if head.isascii() and head.isdecimal() else 0


def _revision(migration: str) -> str:
    return f"procrastinate_{_number(migration) - _FIRST_MIGRATION:04}"
