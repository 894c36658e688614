"""What a database has: nothing, tables of 3.x, tables that are half upgraded, or a revision of this release's."""

from __future__ import annotations

import dataclasses
import enum

import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.alembic.adoption import names_of_3x
from procrastinate.alembic.adoption.own_objects import refuse_own_objects
from procrastinate.alembic.revisions import current_revision, stage_of_tables


class Orphans(enum.StrEnum):
    """What becomes of running jobs that 3.x has left behind: of workers that are gone, or silent for an hour."""

    KEEP = "keep"
    """They stay as they are, until the user decides."""
    RETRY = "retry"
    """Workers take them back, as they do with jobs of their own dead."""
    FAIL = "fail"
    """They end as failed."""


SILENT_FOR = 3600
"""Seconds without a heartbeat after which a worker of 3.x counts as gone: while it drains, it sends none."""

IS_ORPHAN = (
    "job.status = 'doing' AND job.worker_id IS DISTINCT FROM 0 AND NOT EXISTS ("
    "SELECT FROM procrastinate_workers AS worker WHERE worker.id = job.worker_id "
    f"AND extract(epoch FROM now()) - extract(epoch FROM worker.last_heartbeat) <= {SILENT_FOR})"
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OrphanedTask:
    """Jobs of one task that are left behind, and when the oldest of them started."""

    task_name: str
    count: int
    oldest: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What a preflight finds. Times are texts: 3.x may have written what Python cannot read."""

    jobs: int
    events: int
    size: str
    workers: int
    orphans: tuple[OrphanedTask, ...]
    transactions: tuple[str, ...]
    """Other sessions' transactions that have been open for longer than a second."""
    has_policies: bool


def is_needed(connection: sa.Connection) -> bool:
    """Return whether the database has tables of 3.x, or some that are half upgraded, where ours would be made."""
    return current_revision(connection) is None and stage_of_tables(connection, in_current_schema=True) is not None


def check(connection: sa.Connection) -> None:
    """Check that the tables are of 3.10, and this role's to change.

    Raises
    ------
    SchemaConflict
        They are older: the message names the migrations of 3.x that are missing. Or they belong to another role. Or
        the user has columns or tables under names that this release needs.
    """
    signs = ", ".join(f"({condition})" for condition in names_of_3x.SIGNS.values())
    applied = connection.execute(_text(f"SELECT {signs}")).one()
    missing = [name for name, is_applied in zip(names_of_3x.SIGNS, applied, strict=True) if not is_applied]
    if missing:
        raise exceptions.SchemaConflict(
            "The tables are of Procrastinate, and older than its release 3.10. Install procrastinate 3.10, and apply "
            f"its migrations, first (in Django: manage.py migrate). Missing: {', '.join(missing)}"
        )
    functions = [signature.partition("(")[0] for signature in names_of_3x.COPIES]
    foreign = connection.execute(
        _text(_FOREIGN_OWNERS), {"tables": list(names_of_3x.TABLES), "functions": functions}
    ).all()
    if foreign:
        named = ", ".join(f"{row.name} (of {row.owner})" for row in foreign)
        raise exceptions.SchemaConflict(
            f"The role {foreign[0].role} does not own what it would change: {named}. Apply the schema as the owner"
        )
    refuse_own_objects(connection)


def look(connection: sa.Connection) -> State:
    """Look at tables of 3.x, and change nothing."""
    counts = connection.execute(_text(_SIZES)).one()
    orphans = connection.execute(_text(_ORPHANS)).all()
    transactions = connection.execute(_text(_TRANSACTIONS)).scalars()
    return State(
        jobs=counts.jobs,
        events=counts.events,
        size=counts.size,
        workers=counts.workers,
        orphans=tuple(OrphanedTask(**row._mapping) for row in orphans),
        transactions=tuple(transactions),
        has_policies=counts.has_policies,
    )


def _text(statement: str) -> sa.TextClause:
    return sa.text(statement.replace("::", r"\:\:"))


_FOREIGN_OWNERS = """
SELECT owned.name, pg_get_userbyid(owned.owner) AS owner, current_user AS role
FROM (
    SELECT relname, relowner FROM pg_class
    WHERE oid = ANY (SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name)
    UNION ALL
    SELECT proname, proowner FROM pg_proc
    WHERE oid = ANY (SELECT to_regproc(name) FROM unnest(CAST(:functions AS text[])) AS name)
) AS owned (name, owner)
WHERE NOT pg_has_role(owned.owner, 'USAGE')
ORDER BY owned.name
"""

_FEW = 10_000
"""Rows of a table that are counted. PostgreSQL's estimate of a larger one is good enough."""


def _about(table: str) -> str:
    """Return the expression for the number of rows. The statistics of a small table may be missing or old."""
    return (
        f"(SELECT greatest(reltuples::bigint, (SELECT count(*) FROM (SELECT FROM {table} LIMIT {_FEW}) AS few)) "
        f"FROM pg_class WHERE oid = '{table}'::regclass)"
    )


_SIZES = f"""
SELECT
    {_about("procrastinate_jobs")} AS jobs,
    {_about("procrastinate_events")} AS events,
    pg_size_pretty(pg_table_size('procrastinate_jobs')) AS size,
    (SELECT count(*) FROM procrastinate_workers
        WHERE extract(epoch FROM now()) - extract(epoch FROM last_heartbeat) < 60) AS workers,
    EXISTS (SELECT FROM pg_policy WHERE polrelid = 'procrastinate_events'::regclass) AS has_policies
"""

_ORPHANS = f"""
SELECT job.task_name, count(*) AS count, coalesce(min(event.at)::text, 'an unknown time') AS oldest
FROM procrastinate_jobs AS job
LEFT JOIN LATERAL (
    SELECT max(at) AS at FROM procrastinate_events WHERE job_id = job.id AND type = 'started'
) AS event ON true
WHERE ({IS_ORPHAN}) OR (job.status = 'doing' AND job.worker_id = 0)
GROUP BY job.task_name
ORDER BY count(*) DESC, job.task_name
"""

_TRANSACTIONS = """
SELECT format('server process %s, %s for %s', pid, state, date_trunc('second', now() - xact_start))
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND xact_start < now() - interval '1 second'
ORDER BY xact_start
"""
