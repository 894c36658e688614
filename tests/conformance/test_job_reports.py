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


def log(run: Run, job_id: int, worker_id: int, *lines: object, attempt: int = 1) -> None:
    """Write a log."""
    content = json.dumps({"lines": lines, "left_out": 2})
    new = NewReport(job_id=job_id, attempt=attempt, kind=ReportKind.LOG, content=content)
    run(core.write_reports, [new], worker_id=worker_id)


def test_the_log_of_a_run_may_come_after_its_retry(run: Run) -> None:
    job_id, me, other = defer(run), worker(run), worker(run)
    assert run(core.read_job_logs, 987_654) is None
    log(run, job_id, me, [1.5, "INFO", "shop", "too early"])
    job = fetch_one(run, me)
    log(run, job_id, other, [1.5, "INFO", "shop", "another worker"])
    log(run, job_id, me, [1.5, "INFO", "shop", "ahead"], attempt=2)
    assert run(core.read_job_logs, job_id) == ()
    run(core.retry_jobs, [JobRetry(id=job_id, attempts=job.attempts)], worker_id=me)
    log(run, job_id, me, [1.5, "INFO", "shop", "one"], "no line", [2**80, "INFO", "shop", "when?"])
    fetch_one(run, other)
    log(run, job_id, other, [2.5, "INFO", "shop", "two"], attempt=2)
    second, first = run(core.read_job_logs, job_id) or ()
    assert (second.attempt, first.attempt, first.left_out) == (2, 1, 2)
    assert [line.text for line in first.lines] == ["one"]
    assert first.lines[0].at.timestamp() == 1.5
    assert [one.attempt for one in run(core.read_job_logs, job_id, runs=1) or ()] == [2]


def stack(run: Run, job_id: int, worker_id: int, *, attempt: int = 1) -> None:
    """Write a stack."""
    content = json.dumps({"text": f"in task() of attempt {attempt}\n"})
    new = NewReport(job_id=job_id, attempt=attempt, kind=ReportKind.STACK, content=content)
    run(core.write_reports, [new], worker_id=worker_id)


def test_a_stack_is_asked_for_while_the_job_runs(run: Run) -> None:
    job_id, me = defer(run), worker(run)
    assert run(core.request_stack, 987_654) is None
    waits = run(core.request_stack, job_id)
    assert waits is not None
    assert (bool(waits), waits.status) == (False, Status.TODO)
    fetch_one(run, me)
    runs = run(core.request_stack, job_id)
    assert runs is not None
    assert (bool(runs), runs.status, runs.attempt, runs.listens) == (True, Status.DOING, 1, None)


def test_the_last_stack_of_a_job_stays_after_its_end(run: Run) -> None:
    job_id, me, other = defer(run), worker(run), worker(run)
    assert run(core.read_job_stack, 987_654) is None
    job = fetch_one(run, me)
    request = run(core.request_stack, job_id)
    stack(run, job_id, other)
    assert run(core.read_job_stack, job_id) is None
    stack(run, job_id, me)
    kept = run(core.read_job_stack, job_id)
    assert kept is not None
    assert request is not None
    assert (kept.attempt, kept.text) == (1, "in task() of attempt 1\n")
    assert kept.at >= request.at
    finish(run, job)
    assert run(core.read_job_stack, job_id) == kept
