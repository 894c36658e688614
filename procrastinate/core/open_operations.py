"""Find the operations on many jobs that are not over. :mod:`procrastinate.core.bulk` has their steps.

Workers look for them. This module is apart, because the statements of the steps take long to build.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from procrastinate.core.operation_marks import prepared
from procrastinate.core.tables import jobs, operations

KINDS = ("retry", "cancel", "abort", "delete")
"""What an operation does to its jobs. A later release may know more kinds, and its workers work on those."""

_MOST = 100


def _is_one_of(column: sa.ColumnElement[str], words: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition with the words in the text: a prepared statement has a fixed number of parameters."""
    return column.in_([sa.literal_column(f"'{word}'", sa.Text()) for word in words])


NOT_OVER = ("pending", "running")
"""The states of an operation that is not over."""
_MAY_DELETE = sa.func.has_table_privilege(sa.literal(jobs.name, sa.Text()), sa.literal("DELETE", sa.Text()))
IS_NOT_OVER = _is_one_of(operations.c.state, NOT_OVER)
"""The condition "the operation is not over"."""
_OPEN = prepared(
    sa.select(operations.c.id)
    .where(
        IS_NOT_OVER,
        _is_one_of(operations.c.kind, KINDS),
        operations.c.id > sa.bindparam("after", type_=sa.BigInteger()),
        # A step skips the jobs that the database refuses to change. It would skip all of them here.
        sa.or_(operations.c.kind != "delete", _MAY_DELETE),
    )
    .order_by(operations.c.id)
    .limit(sa.literal_column(str(_MOST)))
)


def list_open_operations(connection: sa.Connection, *, after: int = 0) -> list[int]:
    """Return the ids of the first hundred operations that are not over and that this role may work on.

    Parameters
    ----------
    after:
        Leave out those up to this id. The next hundred come after the last one of the previous answer.
    """
    return list(connection.execute(_OPEN, {"after": after}).scalars())
