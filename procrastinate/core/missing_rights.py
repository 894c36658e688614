"""The rights that a worker cannot do without: which of them its role lacks."""

from __future__ import annotations

import sqlalchemy as sa

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


def _has(table: sa.Table, privilege: str) -> sa.ColumnElement[bool]:
    """Select whether the role has the right. A right on some columns may do, except to delete."""
    name, kind = sa.literal(table.name, sa.Text()), sa.literal(privilege, sa.Text())
    has = sa.func.has_table_privilege if privilege == "DELETE" else sa.func.has_any_column_privilege
    return has(name, kind, type_=sa.Boolean())


_RIGHTS = [(table.name, privilege) for table, privileges in _NEEDED.items() for privilege in privileges]
_STATEMENT = sa.select(
    sa.func.quote_ident(sa.func.current_user(type_=sa.Text()), type_=sa.Text()),
    *(
        _has(table, privilege).label(f"{table.name}_{privilege}")
        for table, privileges in _NEEDED.items()
        for privilege in privileges
    ),
)


def list_missing_grants(connection: sa.Connection) -> list[str]:
    """List the statements that give the role of this connection what a worker needs and it lacks."""
    role, *has = connection.execute(_STATEMENT).one()
    lacking: dict[str, list[str]] = {}
    for (table, privilege), is_granted in zip(_RIGHTS, has, strict=True):
        if not is_granted:
            lacking.setdefault(table, []).append(privilege)
    return [f"GRANT {', '.join(privileges)} ON {table} TO {role};" for table, privileges in lacking.items()]
