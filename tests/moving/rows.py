"""What the tables of 3.x have, as text, so that it can be compared before and after."""

from __future__ import annotations

import psycopg

from tests.database import libpq_url

JOB_COLUMNS = (
    "id, queue_name, task_name, priority, lock, queueing_lock, args, status, scheduled_at, attempts, abort_requested, "
    "worker_id"
)
TABLES = {
    "procrastinate_jobs": JOB_COLUMNS,
    "procrastinate_events": "id, job_id, type, at",
    "procrastinate_periodic_defers": "id, task_name, defer_timestamp, job_id, periodic_id",
    "procrastinate_workers": "id, last_heartbeat",
}


def execute(url: str, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Execute a statement, and return its rows, if it has any."""
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description is not None else []


def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the four tables, in the columns that 3.x has."""
    return {
        table: execute(url, f"SELECT row::text FROM (SELECT {columns} FROM {table} ORDER BY id) AS row")  # noqa: S608
        for table, columns in TABLES.items()
    }
