"""The operations on reports of runs, in memory.

Each function is documented at the function of the same name in :mod:`procrastinate.core.job_reports`.
"""

from __future__ import annotations

from collections.abc import Sequence

from procrastinate import core
from procrastinate.core import JobProgress, JobStack, KeptLog, NewReport, ReportKind, StackRequest, Status
from procrastinate.core.job_logs import MOST_RUNS, to_log
from procrastinate.core.job_reports import to_progress
from procrastinate.core.job_stacks import to_stack
from procrastinate.testing.implementations import Implementations
from procrastinate.testing.rows import DOING, NOT_ENDED, TODO, JobRow, StoredReport
from procrastinate.testing.tables import Tables

IMPLEMENTED = Implementations()


@IMPLEMENTED.of(core.write_reports)
def write_reports(tables: Tables, reports: Sequence[NewReport], *, worker_id: int) -> None:
    for report in reports:
        row = tables.jobs.get(report.job_id)
        if row is not None and _belongs_to_worker(row, report, worker_id):
            stored = StoredReport(at=tables.now, content=report.content)
            tables.reports.setdefault(report.job_id, {})[report.attempt, report.kind] = stored


def _belongs_to_worker(row: JobRow, report: NewReport, worker_id: int) -> bool:
    runs = row["status"] == DOING and row["attempts"] == report.attempt - 1
    has_ended = row["status"] not in NOT_ENDED and row["attempts"] == report.attempt
    is_log_of_past_run = report.kind is ReportKind.LOG and row["attempts"] >= report.attempt
    return (row["worker_id"] == worker_id and (runs or has_ended)) or is_log_of_past_run


def find_report(tables: Tables, row: JobRow, kind: ReportKind) -> StoredReport | None:
    """Return the report of a job's run: the one under way, or else the last one."""
    if row["status"] == TODO:
        return None
    attempt = row["attempts"] + (row["status"] == DOING)
    return tables.reports.get(row["id"], {}).get((attempt, kind))


@IMPLEMENTED.of(core.read_job_progress)
def read_job_progress(tables: Tables, job_id: int) -> JobProgress | None:
    row = tables.jobs.get(job_id)
    if row is None:
        return None
    report = find_report(tables, row, ReportKind.PROGRESS)
    at, content = (None, None) if report is None else (report.at, report.content)
    return to_progress(Status(row["status"]), row["attempts"], at, content)


@IMPLEMENTED.of(core.read_job_logs)
def read_job_logs(tables: Tables, job_id: int, *, runs: int = MOST_RUNS) -> tuple[KeptLog, ...] | None:
    if job_id not in tables.jobs:
        return None
    logs = {attempt: one for (attempt, kind), one in tables.reports.get(job_id, {}).items() if kind is ReportKind.LOG}
    return tuple(
        to_log(attempt, logs[attempt].at, logs[attempt].content) for attempt in sorted(logs, reverse=True)[:runs]
    )


@IMPLEMENTED.of(core.request_stack)
def request_stack(tables: Tables, job_id: int) -> StackRequest | None:
    row = tables.jobs.get(job_id)
    if row is None:
        return None
    if row["status"] == DOING:
        tables.notify_stack(row["queue_name"], job_id)
    return StackRequest(status=Status(row["status"]), attempt=row["attempts"] + 1, at=tables.now, listens=None)


@IMPLEMENTED.of(core.read_job_stack)
def read_job_stack(tables: Tables, job_id: int) -> JobStack | None:
    row = tables.jobs.get(job_id)
    report = None if row is None else find_report(tables, row, ReportKind.STACK)
    if row is None or report is None:
        return None
    return to_stack(row["attempts"] + (row["status"] == DOING), report.at, report.content)
