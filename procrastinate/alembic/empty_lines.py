"""Empties the lines of limits before a downgrade to a release without limits, while readers and writers go on.

The revision that takes the limits away locks the tables, and a million jobs in line take it many seconds. So the jobs
leave their lines before, some thousands in a transaction. The revision moves those that have come since.
"""

from __future__ import annotations

import sqlalchemy as sa

from procrastinate.alembic.adoption.adopt import Report, execute, report_to_log
from procrastinate.alembic.build_ahead import is_in_transaction
from procrastinate.alembic.revisions import is_at_least
from procrastinate.alembic.versions import p0014_limits as limits

REVISION = limits.revision
"""The revision that takes the limits away."""
_AT_ONCE = 5000
_EMPTY = f"""
UPDATE procrastinate_jobs SET readiness = 0
WHERE id = ANY (ARRAY(
    SELECT id FROM procrastinate_jobs WHERE {limits.IN_LINE}
    ORDER BY limit_name, limit_key, priority DESC, id
    LIMIT {_AT_ONCE}
    FOR UPDATE SKIP LOCKED
))
"""  # noqa: S608


def empty_lines(connection: sa.Connection, report: Report = report_to_log) -> None:
    """Let all jobs in line go on as if they had no limit. No worker of a release with limits must be at work.

    In an open transaction nothing is done, because it would lock the jobs until its end. The revision moves them.
    """
    if not is_at_least(connection, REVISION) or is_in_transaction(connection):
        return
    total = changed = execute(connection, _EMPTY)
    while changed:
        report(f"    {total:,} jobs have left the lines of limits")
        changed = execute(connection, _EMPTY)
        total += changed
