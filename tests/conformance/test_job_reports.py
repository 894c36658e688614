"""Reports of runs, on each kind of connection."""

from __future__ import annotations

import json

from procrastinate import core
from procrastinate.core import JobRetry, NewReport, ReportKind, Status
from tests.conformance.runs import Run
from tests.conformance.steps import defer, fetch_one, finish, worker


def report(run: Run, job_id: int, worker_id: int, *, done: int, attempt: int = 1) -> None:
    """Write a progress."""
    content = json.dumps({"done": done, "total": 10, "message": "line\u2028two"})
    new = NewReport(job_id=job_id, attempt=attempt, kind=ReportKind.PROGRESS, content=content)
    run(core.write_reports, [new], worker_id=worker_id)


def test_the_progress_of_a_run_is_the_newest_report_of_its_worker(run: Run) -> None:
    job_id, me, other = defer(run), worker(run), worker(run)
    report(run, job_id, me, done=1)
    before = run(core.read_job_progress, job_id)
    assert before is not None
    assert (before.status, before.attempt, before.done, before.at) == (Status.TODO, 0, None, None)
    job = fetch_one(run, me)
    report(run, job_id, other, done=9)
    report(run, job_id, me, done=8, attempt=2)
    silent = run(core.read_job_progress, job_id)
    assert silent is not None
    assert (silent.status, silent.attempt, silent.done) == (Status.DOING, 1, None)
    report(run, job_id, me, done=2)
    report(run, job_id, me, done=3)
    running = run(core.read_job_progress, job_id)
    assert running is not None
    assert (running.done, running.total, running.percent, running.message) == (3, 10, 30.0, "line\u2028two")
    assert running.at is not None
    finish(run, job)
    report(run, job_id, me, done=10)
    ended = run(core.read_job_progress, job_id)
    assert ended is not None
    assert (ended.status, ended.attempt, ended.done) == (Status.SUCCEEDED, 1, 10)


def test_a_retry_begins_without_progress(run: Run) -> None:
    job_id, me = defer(run), worker(run)
    job = fetch_one(run, me)
    report(run, job_id, me, done=5)
    run(core.retry_jobs, [JobRetry(id=job_id, attempts=job.attempts)], worker_id=me)
    report(run, job_id, me, done=6)
    for attempt in (1, 2):
        progress = run(core.read_job_progress, job_id)
        assert progress is not None
        assert (progress.attempt, progress.done) == (attempt, None)
        fetch_one(run, me) if attempt == 1 else None


def test_reports_are_deleted_with_their_job(run: Run) -> None:
    job_id, me = defer(run), worker(run)
    job = fetch_one(run, me)
    report(run, job_id, me, done=5)
    finish(run, job, delete=True)
    report(run, job_id, me, done=6)
    assert run(core.read_job_progress, job_id) is None
