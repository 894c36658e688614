"""The rights that a worker cannot do without: which of them its role lacks."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from procrastinate.core.arrays import unnest, write_columns
from procrastinate.core.operation_marks import plain
from procrastinate.core.tables import (
    arrivals,
    dependencies,
    errors,
    events,
    hold_offs,
    job_reports,
    jobs,
    limits,
    openings,
    paused_queues,
    results,
    starts,
    statistics,
    task_lists,
    turns,
    uniques,
    windows,
    workers,
    workflows,
)

_NEEDED: dict[sa.Table, tuple[str, ...]] = {
    jobs: ("SELECT", "UPDATE"),
    events: ("SELECT", "INSERT"),
    workers: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    results: ("SELECT", "INSERT", "UPDATE"),
    errors: ("INSERT",),
    job_reports: ("SELECT", "INSERT", "UPDATE"),
    paused_queues: ("SELECT",),
    statistics: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    task_lists: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    workflows: ("SELECT", "UPDATE"),
    dependencies: ("SELECT", "UPDATE"),
    arrivals: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    uniques: ("SELECT", "UPDATE", "DELETE"),
    limits: ("SELECT", "INSERT", "UPDATE"),
    openings: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    starts: ("SELECT", "INSERT", "DELETE"),
    windows: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    turns: ("SELECT", "INSERT", "UPDATE"),
    hold_offs: ("SELECT", "INSERT", "UPDATE", "DELETE"),
}
NEEDED_BY_SOME = ("procrastinate_periodic_defers", "procrastinate_operations")
"""The tables that a worker needs only for periodic tasks, or not at all."""


class _Right(NamedTuple):
    table_name: str
    privilege: str


_COLUMNS: dict[str, TypeEngine[str]] = {"table_name": sa.Text(), "privilege": sa.Text()}
_needed = unnest(_COLUMNS, name="needed")


def _has_right() -> sa.ColumnElement[bool]:
    """Select whether the role has the right. A right on some columns may do, except to delete."""
    is_for_rows = _needed.c.privilege == sa.literal_column("'DELETE'")
    table, some_columns = (
        has(_needed.c.table_name, _needed.c.privilege, type_=sa.Boolean())
        for has in (sa.func.has_table_privilege, sa.func.has_any_column_privilege)
    )
    return sa.case((is_for_rows, table), else_=some_columns)


_STATEMENT = plain(
    sa.select(
        sa.func.quote_ident(sa.func.current_user(type_=sa.Text()), type_=sa.Text()).label("role"),
        _needed.c.table_name,
        _needed.c.privilege,
    )
    .where(~_has_right())
    .order_by(_needed.c.ordinality)
)
_PARAMETERS = write_columns(
    [_Right(table.name, privilege) for table, privileges in _NEEDED.items() for privilege in privileges], _COLUMNS
)


def list_missing_grants(connection: sa.Connection) -> list[str]:
    """List the statements that give the role of this connection what a worker needs and it lacks."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for row in connection.execute(_STATEMENT, _PARAMETERS):
        lacking.setdefault((row.table_name, row.role), []).append(row.privilege)
    return [f"GRANT {', '.join(privileges)} ON {table} TO {role};" for (table, role), privileges in lacking.items()]
