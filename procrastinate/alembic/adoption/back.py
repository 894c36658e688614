"""The way back to 3.x, and its end."""

from __future__ import annotations

import sqlalchemy as sa

from procrastinate.alembic.adoption import names_of_3x, statements
from procrastinate.alembic.adoption.adopt import Report, execute, report_to_log, require, with_patience

KEPT = "procrastinate_0007"
"""The newest revision whose objects :func:`revert` leaves. Another upgrade finds them, and replaces them."""

_FACTS = sa.text(
    """
    SELECT
        (SELECT count(*) FROM procrastinate_workers
            WHERE stalled_timeout IS NULL
                AND extract(epoch FROM now()) - extract(epoch FROM last_heartbeat) < 3600) AS workers_of_3x,
        (SELECT count(*) FROM procrastinate_workers
            WHERE stalled_timeout IS NOT NULL
                AND extract(epoch FROM now()) - extract(epoch FROM last_heartbeat) < stalled_timeout) AS workers
    """
)


_HAS_ORIGINALS = sa.select(sa.func.to_regproc(sa.literal("procrastinate_fetch_job_v2_of_3x", sa.Text())).is_not(None))


def can_revert(connection: sa.Connection) -> bool:
    """Return whether the database was upgraded from 3.x, and has what the way back needs."""
    return connection.execute(_HAS_ORIGINALS).scalar_one()


def check_revert(connection: sa.Connection) -> None:
    """Check that the tables can become those of 3.x again.

    Raises
    ------
    SchemaConflict
        The tables were never of 3.x, or :func:`contract` was run. Or workers of this release are at work.
    """
    require(
        can_revert(connection),
        "There is no schema of 3.x to go back to: these tables were made by this release, or `procrastinate schema "
        "--contract` was run. Procrastinate 3.10 works on them as they are: install it",
    )
    facts = connection.execute(_FACTS).one()
    require(
        facts.workers == 0,
        f"{facts.workers} workers of this release are at work. Stop them, and repeat. A worker that was killed counts "
        "until its stalled_worker_timeout is over",
    )


def revert(connection: sa.Connection, report: Report = report_to_log) -> None:
    """Give the tables the triggers, foreign keys and functions of 3.x again. The connection is in autocommit.

    :func:`~procrastinate.alembic.upgrades.downgrade_to_kept` takes back the revisions after :data:`KEPT` before.
    Columns and tables of the others stay: 3.x does not look at them.

    Raises
    ------
    SchemaConflict
        As :func:`check_revert`.
    """
    check_revert(connection)
    report("put back triggers, foreign keys and functions of 3.x (locks: ACCESS EXCLUSIVE on the four tables, briefly)")
    with_patience(connection, statements.REVERT, report)
    for statement in statements.VALIDATE:
        report(f"{statement} (locks: {_SHARED})")
        with_patience(connection, statement, report)


_SHARED = "SHARE UPDATE EXCLUSIVE: reads and writes go on"


def contract(connection: sa.Connection, report: Report = report_to_log) -> None:
    """Drop what only 3.x and the way back to it need. The connection is in autocommit.

    Raises
    ------
    SchemaConflict
        Workers of 3.x are at work, or were less than an hour ago.
    """
    facts = connection.execute(_FACTS).one()
    require(
        facts.workers_of_3x == 0,
        f"{facts.workers_of_3x} workers of Procrastinate 3.x are at work, or were less than an hour ago. Their fetches "
        "need these indexes. Stop them, and repeat. A worker of 3.x that was killed counts for an hour, unless a "
        "worker of this release with --legacy-worker-timeout=60 removes it",
    )
    for index in names_of_3x.INDEXES:
        report(f"drop the index {index} (locks: {_SHARED})")
        execute(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
    report("drop the functions of 3.x")
    with_patience(connection, statements.DROP_FUNCTIONS_OF_3X, report)
