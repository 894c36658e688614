"""What revisions share: functions that replace former ones, and statements that run as they are written."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


def replaced(function: str, *changes: tuple[str, str]) -> str:
    """Return the text of a function of a former revision, with changes, as the statement that replaces it.

    PostgreSQL replaces a function whole. A revision names only what differs, so that a reader sees it.

    Parameters
    ----------
    changes:
        Each a part of the text, which is there once, and what takes its place.
    """
    function = function.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
    for former, new in changes:
        if function.count(former) != 1:
            raise ValueError(f"The function has this {function.count(former)} times, and not once: {former}")
        function = function.replace(former, new)
    return function


def execute_as_written(statement: str) -> None:
    """Run a statement as it stands in a revision. Its colons begin no parameters."""
    op.execute(sa.text(statement.strip().replace(":", r"\:")))
