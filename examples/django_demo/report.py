"""A report on the demo's jobs, read with SQL from the tables."""

from __future__ import annotations

import dataclasses

import psycopg
from rich.console import Console
from rich.table import Table

_COUNTS = """
SELECT
    job.task_name,
    count(*) AS jobs,
    count(*) FILTER (WHERE job.status = 'succeeded') AS succeeded,
    count(*) FILTER (WHERE job.status = 'failed') AS failed,
    count(*) FILTER (WHERE job.status IN ('todo', 'doing')) AS unfinished,
    coalesce(sum(retry.count), 0) AS retries,
    count(*) FILTER (WHERE scheduled.count > 0 AND retry.count = 0) AS scheduled
FROM procrastinate_jobs AS job
CROSS JOIN LATERAL (
    -- Not by events, because the events of a prefetched and released job look like those of a retry.
    SELECT greatest(job.attempts - (job.finished_at IS NOT NULL)::int, 0) AS count
) AS retry
CROSS JOIN LATERAL (
    SELECT count(*) FROM procrastinate_events WHERE job_id = job.id AND type = 'scheduled'
) AS scheduled
GROUP BY job.task_name
ORDER BY job.task_name
"""


@dataclasses.dataclass(frozen=True)
class TaskReport:
    """The number of jobs of one task, by outcome."""

    task_name: str
    jobs: int
    succeeded: int
    failed: int
    unfinished: int
    retries: int
    scheduled: int


def read_reports(connection: psycopg.Connection) -> list[TaskReport]:
    """Return a report per task, by name."""
    return [TaskReport(*row) for row in connection.execute(_COUNTS)]


def read_progress(connection: psycopg.Connection) -> tuple[int, int]:
    """Return the number of ended jobs and of all jobs, without periodic ones."""
    row = connection.execute(
        "SELECT count(*) FILTER (WHERE status NOT IN ('todo', 'doing')), count(*) "
        "FROM procrastinate_jobs WHERE task_name <> 'shop.tasks.count_orders'"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def read_states(connection: psycopg.Connection) -> set[str]:
    """Return the states that have jobs."""
    return {row[0] for row in connection.execute("SELECT DISTINCT status::text FROM procrastinate_jobs")}


def read_status(connection: psycopg.Connection, task_name: str) -> str | None:
    """Return the status of the newest job of a task."""
    statement = "SELECT status::text FROM procrastinate_jobs WHERE task_name = %s ORDER BY id DESC LIMIT 1"
    row = connection.execute(statement, [task_name]).fetchone()
    return None if row is None else str(row[0])


def read_steps(connection: psycopg.Connection, workflow: str) -> list[tuple[str, str, int]]:
    """Return the name, the status and the number of runs of each step of a workflow, in the order of their ends."""
    statement = (
        "SELECT job.step, job.status::text, job.attempts FROM procrastinate_jobs AS job "
        "JOIN procrastinate_workflows AS workflow ON workflow.id = job.workflow_id "
        "WHERE workflow.name = %s ORDER BY job.finished_at, job.id"
    )
    return [
        (str(step), str(status), int(attempts)) for step, status, attempts in connection.execute(statement, [workflow])
    ]


_MOST_AT_ONCE = """
SELECT max(running) FROM (
    SELECT sum(change) OVER (ORDER BY at, change ROWS UNBOUNDED PRECEDING) AS running
    FROM (
        SELECT event.at, CASE WHEN event.type = 'started' THEN 1 ELSE -1 END AS change
        FROM procrastinate_events AS event
        JOIN procrastinate_jobs AS job ON job.id = event.job_id
        WHERE job.task_name = %s AND event.type IN ('started', 'succeeded', 'failed', 'deferred_for_retry')
    ) AS changes
) AS counted
"""


def read_most_at_once(connection: psycopg.Connection, task_name: str) -> int:
    """Return the largest number of jobs of a task that ran at the same time."""
    row = connection.execute(_MOST_AT_ONCE, [task_name]).fetchone()
    assert row is not None
    return int(row[0])


def print_reports(console: Console, reports: list[TaskReport]) -> None:
    """Print the reports as a table."""
    table = Table(title="Jobs in the database")
    table.add_column("task")
    for column in ("jobs", "succeeded", "failed", "retries", "scheduled"):
        table.add_column(column, justify="right")
    for report in reports:
        values = (report.jobs, report.succeeded, report.failed, report.retries, report.scheduled)
        table.add_row(report.task_name, *map(str, values))
    console.print(table)
