"""Find the operations on many jobs that are not over. :mod:`procrastinate.core.bulk` has their steps.

Every worker looks for them. This module is apart, because the statements of the steps take long to build.
"""

from __future__ import annotations

import sqlalchemy as sa

from procrastinate.core.tables import jobs, operations

_MOST = 100
_MAY_DELETE = sa.func.has_table_privilege(sa.literal(jobs.name, sa.Text()), sa.literal("DELETE", sa.Text()))
_OPEN = (
    sa.select(operations.c.id)
    .where(
        operations.c.state.in_(["pending", "running"]),
        # A step skips the jobs that the database refuses to change. It would skip all of them here.
        sa.or_(operations.c.kind != "delete", _MAY_DELETE),
    )
    .order_by(operations.c.id)
    .limit(sa.literal_column(str(_MOST)))
)


def list_open_operations(connection: sa.Connection) -> list[int]:
    """Return the ids of the first hundred operations that are not over and that this role may work on."""
    return list(connection.execute(_OPEN).scalars())
