"""Finds what users have added to a database of 3.x under names that this release needs: columns and tables."""

from __future__ import annotations

import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.alembic.adoption import names_of_3x
from procrastinate.core.tables import metadata

_ADOPTED_COLUMNS = {
    "procrastinate_jobs": ("readiness", "rescues", "finished_at"),
    "procrastinate_workers": ("called_for", "heartbeat_interval", "stalled_timeout"),
}
"""The adoption adds those of a table together, and a return to 3.x leaves them."""
_ADOPTED_TABLES = ("procrastinate_results", "procrastinate_errors")
"""The adoption creates them after those columns, and a return to 3.x leaves them."""


def _later_columns(table: str) -> list[str]:
    known = {*names_of_3x.COLUMNS[table], *_ADOPTED_COLUMNS[table]}
    return [column.name for column in metadata.tables[table].columns if column.name not in known]


def _later_tables() -> list[str]:
    return [name for name in metadata.tables if name not in {*names_of_3x.TABLES, *_ADOPTED_TABLES}]


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _columns(table: str, names: tuple[str, ...] | list[str]) -> str:
    return (
        f"FROM pg_attribute WHERE attrelid = to_regclass('{table}') AND attnum > 0 "
        f"AND NOT attisdropped AND attname IN ({_listed(names)})"
    )


def _has_adopted_columns(table: str) -> str:
    names = _ADOPTED_COLUMNS[table]
    return f"(SELECT count(*) {_columns(table, names)}) = {len(names)}"


def _found_columns(table: str) -> list[str]:
    named = f"SELECT format('ALTER TABLE {table} RENAME COLUMN %I TO %I', attname, 'my_' || attname)"
    return [
        f"{named} {_columns(table, _later_columns(table))}",
        f"{named} {_columns(table, _ADOPTED_COLUMNS[table])} AND NOT {_has_adopted_columns(table)}",
    ]


def _found_tables(names: tuple[str, ...] | list[str], condition: str) -> str:
    return (
        "SELECT format('ALTER TABLE %I RENAME TO %I', relname, 'my_' || relname) FROM pg_class "
        f"WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND relname IN ({_listed(names)}) "
        f"AND {condition}"
    )


_EVERY = [
    *(part for table in _ADOPTED_COLUMNS for part in _found_columns(table)),
    _found_tables(_ADOPTED_TABLES, f"NOT {_has_adopted_columns('procrastinate_jobs')}"),
    _found_tables(_later_tables(), "true"),
]
_FOUND = f"""
SELECT string_agg(rename, '; ' ORDER BY rename) FROM ({" UNION ALL ".join(_EVERY)}) AS found (rename)
WHERE to_regclass('procrastinate_alembic_version') IS NULL
"""
"""The statements that rename them, as one text. In a database with a revision these names are of this release."""
_REFUSAL = (
    "This release needs these names for columns and tables of its own. Nothing was changed. "
    "Give yours other names, and repeat: "
)


def refuse_own_objects(connection: sa.Connection) -> None:
    """Refuse a database whose owner has columns or tables under the names that this release adds.

    Raises
    ------
    SchemaConflict
        The message has the statements that rename them.
    """
    renames = connection.execute(sa.text(_FOUND)).scalar_one()
    if renames is not None:
        raise exceptions.SchemaConflict(f"{_REFUSAL}{renames}")


REFUSE_OWN_OBJECTS = f"""DO $do$
DECLARE
    renames text := ({_FOUND.strip()});
BEGIN
    IF renames IS NOT NULL THEN
        RAISE EXCEPTION USING MESSAGE = '{_REFUSAL}' || renames;
    END IF;
END
$do$"""
"""The same for psql."""
