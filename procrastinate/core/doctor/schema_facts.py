"""What is read of the schema: which tables, columns, triggers and indexes there are."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from procrastinate.core.arrays import each_of
from procrastinate.core.tables import jobs, metadata

TRIGGERS: dict[str, tuple[str, ...]] = {
    "procrastinate_jobs": (
        "procrastinate_details_deleted",
        "procrastinate_jobs_deleted",
        "procrastinate_jobs_inserted",
        "procrastinate_jobs_truncated",
        "procrastinate_jobs_updated",
    ),
    "procrastinate_paused_queues": ("procrastinate_pauses_changed",),
}
"""The triggers of the newest schema, by table."""

_TRIGGER_OF_3X = "procrastinate_trigger_status_events_insert_v1"
_NAMES = {"names": sorted(metadata.tables)}
_OURS = each_of("names", sa.Text(), "name", name="ours")
_OUR_ID = sa.cast(sa.func.to_regclass(_OURS.c.name), postgresql.OID)


def _catalogue(name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *map(sa.column, columns), schema="pg_catalog")


_attributes = _catalogue("pg_attribute", "attrelid", "attname", "attnum", "attisdropped")
_triggers = _catalogue("pg_trigger", "tgrelid", "tgname", "tgisinternal", "tgenabled")
_indexes = _catalogue("pg_index", "indexrelid", "indrelid", "indisvalid", "indisready")
_classes = _catalogue("pg_class", "oid", "relname", "relnamespace")
_namespaces = _catalogue("pg_namespace", "oid", "nspname")


def _text(column: sa.ColumnElement[Any], name: str) -> sa.Label[str]:
    return sa.cast(column, sa.Text()).label(name)


_COLUMNS = (
    sa.select(_OURS.c.name, _text(_attributes.c.attname, "column_name"))
    .select_from(_OURS.join(_attributes, _attributes.c.attrelid == _OUR_ID))
    .where(_attributes.c.attnum > 0, sa.not_(_attributes.c.attisdropped))
)
_TRIGGERS = (
    sa.select(
        _OURS.c.name,
        _text(_triggers.c.tgname, "trigger_name"),
        sa.cast(_triggers.c.tgenabled, sa.Text()).in_(["O", "A"]).label("fires"),
    )
    .select_from(_OURS.join(_triggers, _triggers.c.tgrelid == _OUR_ID))
    .where(sa.not_(_triggers.c.tgisinternal))
)
_INDEXES = sa.select(
    _OURS.c.name,
    _text(_classes.c.relname, "index_name"),
    sa.and_(_indexes.c.indisvalid, _indexes.c.indisready).label("works"),
).select_from(
    _OURS.join(_indexes, _indexes.c.indrelid == _OUR_ID).join(_classes, _classes.c.oid == _indexes.c.indexrelid)
)
_FILTERED = (
    sa.select(_OURS.c.name).where(sa.func.row_security_active(_OUR_ID, type_=sa.Boolean())).order_by(_OURS.c.name)
)
_OTHER_SCHEMAS = (
    sa.select(_text(_namespaces.c.nspname, "schema"))
    .join(_classes, _classes.c.relnamespace == _namespaces.c.oid)
    .where(_classes.c.relname == jobs.name)
    .order_by(sa.literal_column("1"))
    .limit(sa.literal_column("10"))
)


_SEQUENCE = sa.func.pg_get_serial_sequence(_OURS.c.name, sa.literal_column("'id'"), type_=sa.Text())
_SEQUENCES = (
    sa.select(
        _OURS.c.name,
        sa.and_(
            sa.func.has_column_privilege(_OURS.c.name, sa.literal_column("'id'"), sa.literal_column("'SELECT'")),
            sa.func.has_sequence_privilege(_SEQUENCE, sa.literal_column("'USAGE, SELECT'")),
        ).label("is_seen"),
    )
    .where(_SEQUENCE.is_not(None))
    .order_by(_OURS.c.name)
)


def _is_behind(table: sa.Table) -> sa.Select[str, bool]:
    """Ask whether the table has an id that its sequence has not drawn."""
    sequence = sa.func.pg_get_serial_sequence(table.name, "id")
    drawn = sa.func.pg_sequence_last_value(sa.cast(sequence, postgresql.REGCLASS), type_=sa.BigInteger())
    is_behind = sa.func.coalesce(sa.func.max(table.c.id), 0) > sa.func.coalesce(drawn, 0)
    return sa.select(sa.literal(table.name).label("name"), is_behind.label("is_behind"))


def read_columns(connection: sa.Connection) -> dict[str, set[str]]:
    """Return the columns of each table of ours that statements on this connection find."""
    found: dict[str, set[str]] = {}
    for row in connection.execute(_COLUMNS, _NAMES):
        found.setdefault(row.name, set()).add(row.column_name)
    return found


def read_triggers(connection: sa.Connection) -> dict[tuple[str, str], bool]:
    """Return whether each trigger of our tables fires, by table and name."""
    return {(row.name, row.trigger_name): row.fires for row in connection.execute(_TRIGGERS, _NAMES)}


def list_filtered_tables(connection: sa.Connection) -> list[str]:
    """Return the names of our tables whose row-level security applies to this role."""
    return list(connection.execute(_FILTERED, _NAMES).scalars())


def read_sequences(connection: sa.Connection) -> dict[str, bool | None]:
    """Return whether each table of ours has an id that its sequence has not drawn. A table that is missing is left out.

    The answer is ``None`` if this role may not see the sequence or the ids.
    """
    columns = read_columns(connection)
    numbered = [name for name, table in metadata.tables.items() if "id" in table.c and table.c.id.identity is not None]
    names = sorted(name for name in numbered if "id" in columns.get(name, ()))
    is_seen = {row.name: row.is_seen for row in connection.execute(_SEQUENCES, {"names": names})}
    is_behind: dict[str, bool | None] = dict.fromkeys(is_seen)
    seen = [name for name in is_seen if is_seen[name]]
    if seen:
        questions = [_is_behind(metadata.tables[name]) for name in seen]
        is_behind |= {row.name: row.is_behind for row in connection.execute(sa.union_all(*questions))}
    return is_behind


def has_trigger_of_3x(connection: sa.Connection) -> bool:
    """Return true if the tables work as Procrastinate 3.x makes them."""
    return (jobs.name, _TRIGGER_OF_3X) in read_triggers(connection)


def read_indexes(connection: sa.Connection) -> dict[tuple[str, str], bool]:
    """Return whether each index of our tables is valid and ready, by table and name."""
    return {(row.name, row.index_name): row.works for row in connection.execute(_INDEXES, _NAMES)}


def list_other_schemas(connection: sa.Connection) -> list[str]:
    """Return the schemas that have a table of jobs, wherever this connection looks."""
    return list(connection.execute(_OTHER_SCHEMAS).scalars())
