"""The logs that runs of jobs keep.

The log of a run is one report. It is written again while it grows, so its size is bounded.
"""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arguments import shown
from procrastinate.core.enums import ReportKind
from procrastinate.core.fetch import from_microseconds, microseconds
from procrastinate.core.rows import KeptLog, LogLine
from procrastinate.core.stored_json import load_object
from procrastinate.core.tables import job_reports, jobs

MOST_RUNS = 20
"""Number of runs whose logs are read, from the newest."""
_LONGEST = 250_000
"""Maximum size in bytes of a log that is read. What this project writes is shorter."""

_READ = (
    sa.select(
        job_reports.c.attempt,
        microseconds(job_reports.c.at).label("at"),
        shown(job_reports.c.content, _LONGEST).label("content"),
    )
    .select_from(
        jobs.outerjoin(
            job_reports,
            sa.and_(
                job_reports.c.job_id == jobs.c.id,
                job_reports.c.kind == sa.literal_column(f"'{ReportKind.LOG.value}'", type_=sa.Text()),
            ),
        )
    )
    .where(jobs.c.id == sa.bindparam("job_id", type_=sa.BigInteger()))
    .order_by(job_reports.c.attempt.desc())
    .limit(sa.bindparam("runs", type_=sa.Integer()))
)


def read_job_logs(connection: sa.Connection, job_id: int, *, runs: int = MOST_RUNS) -> tuple[KeptLog, ...] | None:
    """Return the logs of the newest runs of a job, newest first, or ``None`` if the job does not exist."""
    rows = connection.execute(_READ, {"job_id": job_id, "runs": runs}).all()
    if not rows:
        return None
    return tuple(to_log(row.attempt, from_microseconds(row.at), row.content) for row in rows if row.at is not None)


def to_log(attempt: int, at: datetime.datetime | None, content: str | None) -> KeptLog:
    """Return the record of a report. Any client can write the table, so a line of another form is left out."""
    assert at is not None
    read = load_object(content)
    lines, left_out = read.get("lines"), read.get("left_out")
    return KeptLog(
        attempt=attempt,
        at=at,
        lines=tuple(line for line in map(_line, lines if isinstance(lines, list) else ()) if line is not None),
        left_out=left_out if isinstance(left_out, int) and left_out > 0 else 0,
    )


def _line(value: Any) -> LogLine | None:
    match value:
        case [int() | float() as seconds, str() as level, str() as logger, str() as text]:
            try:
                at = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
            except (ValueError, OverflowError, OSError):
                return None
            return LogLine(at=at, level=level, logger=logger, text=text)
    return None
