"""What runs of jobs report: the progress, the log and the stack of each.

A report is a row of its own, so that writing one touches no index of the jobs. Each run of a job has its own reports.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.types import TypeEngine

from procrastinate.core.arguments import shown
from procrastinate.core.arrays import transpose, unnest
from procrastinate.core.enums import ReportKind, Status
from procrastinate.core.fetch import from_microseconds, microseconds
from procrastinate.core.rows import JobProgress
from procrastinate.core.stored_json import load_object
from procrastinate.core.tables import DOING, HAS_KNOWN_STATUS, TODO, job_reports, jobs


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NewReport:
    """A report of a run. ``attempt`` is the number of the run, from 1. ``content`` is the text of a JSON object."""

    job_id: int
    attempt: int
    kind: ReportKind
    content: str

    @property
    def kind_text(self) -> str:
        """The kind as PostgreSQL stores it."""
        return self.kind.value


_COLUMNS: dict[str, TypeEngine[Any]] = {
    "job_id": sa.BigInteger(),
    "attempt": sa.Integer(),
    "kind_text": sa.Text(),
    "content": sa.Text(),
}
_new = unnest(_COLUMNS, name="new_report")
_WORKER = sa.bindparam("worker", type_=sa.BigInteger())
_LOG = sa.literal_column(f"'{ReportKind.LOG.value}'", type_=sa.Text())


def _belongs_to_worker() -> sa.ColumnElement[bool]:
    """Return the fence: the worker runs the job in this attempt, or has just ended this attempt.

    The last report of a run may be written after its outcome. A log stays true after the run: only one worker runs an
    attempt, and its last lines may come when the job waits again or another worker runs it.
    """
    runs = sa.and_(jobs.c.status == DOING, jobs.c.attempts == _new.c.attempt - 1)
    has_ended = sa.and_(jobs.c.status.not_in([TODO, DOING]), jobs.c.attempts == _new.c.attempt)
    is_log_of_past_run = sa.and_(_new.c.kind_text == _LOG, jobs.c.attempts >= _new.c.attempt)
    return sa.or_(sa.and_(jobs.c.worker_id == _WORKER, sa.or_(runs, has_ended)), is_log_of_past_run)


def _write_statement() -> Any:
    # The lock keeps a deletion from passing by: the report of a deleted job would stay. It stands in the way of no
    # outcome.
    held = (
        sa.select(jobs.c.id)
        .where(jobs.c.id == _new.c.job_id, _belongs_to_worker())
        .limit(1)
        .with_for_update(read=True, key_share=True, skip_locked=True)
        .lateral("held")
    )
    rows = sa.select(
        held.c.id, _new.c.attempt, _new.c.kind_text, _WORKER, sa.func.now(), sa.cast(_new.c.content, JSONB)
    ).select_from(_new.join(held, sa.true()))
    statement = insert(job_reports).from_select(["job_id", "attempt", "kind", "worker_id", "at", "content"], rows)
    changed = {name: statement.excluded[name] for name in ("worker_id", "at", "content")}
    return statement.on_conflict_do_update(index_elements=["job_id", "attempt", "kind"], set_=changed)


_WRITE = _write_statement()


def write_reports(connection: sa.Connection, reports: Sequence[NewReport], *, worker_id: int) -> None:
    """Store reports of runs in one statement, each in place of the last one of its kind.

    A progress of a run that the worker has lost is not stored, nor a report of a job whose row another session has
    locked.
    """
    in_order = sorted(reports, key=lambda report: (report.job_id, report.attempt))
    connection.execute(_WRITE, transpose(in_order, _COLUMNS) | {"worker": worker_id})


def is_of_last_run(kind: ReportKind) -> sa.ColumnElement[bool]:
    """Return the condition that joins a job with the report of its run: the one under way, or else the last one.

    A job that waits for its next run has none.
    """
    attempt = sa.case((jobs.c.status == DOING, jobs.c.attempts + 1), else_=jobs.c.attempts)
    return sa.and_(
        job_reports.c.job_id == jobs.c.id,
        job_reports.c.kind == sa.literal_column(f"'{kind.value}'", type_=sa.Text()),
        job_reports.c.attempt == attempt,
        jobs.c.status != TODO,
    )


_LONGEST = 20_000
"""Maximum size in bytes of a report that is read. What this project writes is shorter."""
READABLE_REPORT: sa.ColumnElement[Any] = shown(job_reports.c.content, _LONGEST)
_READ_PROGRESS = (
    sa.select(
        jobs.c.status,
        jobs.c.attempts,
        microseconds(job_reports.c.at).label("at"),
        READABLE_REPORT.label("content"),
    )
    .select_from(jobs.outerjoin(job_reports, is_of_last_run(ReportKind.PROGRESS)))
    .where(jobs.c.id == sa.bindparam("job_id", type_=sa.BigInteger()), HAS_KNOWN_STATUS)
)


def read_job_progress(connection: sa.Connection, job_id: int) -> JobProgress | None:
    """Return how far a job is, or ``None`` if the job does not exist."""
    row = connection.execute(_READ_PROGRESS, {"job_id": job_id}).one_or_none()
    return None if row is None else to_progress(row.status, row.attempts, from_microseconds(row.at), row.content)


def to_progress(status: Status, attempts: int, at: datetime.datetime | None, content: str | None) -> JobProgress:
    """Return the record of a job's row and of the report of its run, if there is one."""
    attempt = attempts + (status is Status.DOING)
    if content is None:
        return JobProgress(status=status, attempt=attempt)
    return JobProgress(status=status, attempt=attempt, at=at, **_values(content))


def _values(content: str) -> dict[str, Any]:
    """Return the values of a report, each of the type that it must have."""
    read = load_object(content)
    done, total, message = read.get("done"), read.get("total"), read.get("message")
    return {
        "done": done if _is_number(done) else None,
        "total": total if _is_number(total) else None,
        "message": message if isinstance(message, str) else None,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**63
