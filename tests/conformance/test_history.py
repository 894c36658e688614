"""The history of a job, as the operations leave it."""

from __future__ import annotations

import pytest

from procrastinate import core
from procrastinate.core import JobRetry, Status
from tests.conformance.runs import Run
from tests.conformance.steps import (
    FUTURE,
    PAST,
    change,
    defer,
    fetch_one,
    finish,
    list_history,
    settle,
    worker,
)


def history(run: Run, job_id: int = 1) -> list[str]:
    """The events of a job, in order."""
    return run(list_history, job_id)


def test_a_deferred_job_has_a_history(run: Run) -> None:
    defer(run)
    assert history(run) == ["deferred"]


def test_a_scheduled_job_has_its_time_in_its_history(run: Run) -> None:
    defer(run, scheduled_at=FUTURE)
    assert history(run) == ["deferred", "scheduled"]


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.ABORTED])
def test_a_finished_job_has_its_outcome_in_its_history(run: Run, status: Status) -> None:
    defer(run)
    finish(run, fetch_one(run, worker(run)), status=status)
    assert history(run) == ["deferred", "started", status.value]


def test_a_promotion_leaves_no_trace(run: Run) -> None:
    ids = [defer(run, lock="l", scheduled_at=PAST) for _ in range(2)]
    settle(run)
    assert [history(run, job_id) for job_id in ids] == [["deferred", "scheduled"]] * 2


def test_a_retry_is_in_the_history(run: Run) -> None:
    worker_id = worker(run)
    defer(run)
    job = fetch_one(run, worker_id)
    run(core.retry_jobs, [JobRetry(id=job.id, attempts=0, retry_at=FUTURE)], worker_id=worker_id)
    assert history(run) == ["deferred", "started", "deferred_for_retry", "scheduled"]


def test_a_retry_by_hand_is_in_the_history(run: Run) -> None:
    defer(run)
    finish(run, fetch_one(run, worker(run)), status=Status.FAILED)
    run(core.retry_job_by_id, 1)
    assert history(run) == ["deferred", "started", "failed", "retried", "scheduled"]


def test_a_cancellation_is_in_the_history(run: Run) -> None:
    run(core.cancel_job, defer(run))
    assert history(run) == ["deferred", "cancelled"]


def test_a_request_to_abort_is_in_the_history_once(run: Run) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    for _ in range(2):
        run(core.cancel_job, job.id, abort=True)
    finish(run, job, status=Status.ABORTED)
    assert history(run) == ["deferred", "started", "abort_requested", "aborted"]


def test_a_rescue_is_in_the_history(run: Run) -> None:
    worker_id = worker(run)
    defer(run)
    fetch_one(run, worker_id)
    run(core.unregister_worker, worker_id)
    run(core.rescue_jobs, max_rescues=1)
    assert history(run) == ["deferred", "started", "deferred_for_retry"]


def test_a_new_time_is_in_the_history(run: Run) -> None:
    job_id = defer(run, scheduled_at=PAST)
    change(run, job_id, scheduled_at=FUTURE)
    assert history(run) == ["deferred", "scheduled", "scheduled"]


def test_a_deleted_job_has_no_history(run: Run) -> None:
    deleted, kept = defer(run), defer(run)
    run(core.cancel_job, deleted, delete=True)
    assert (history(run, deleted), history(run, kept)) == ([], ["deferred"])
