"""Recording the outcome of a job."""

from __future__ import annotations

import dataclasses

import pytest

from procrastinate import core
from procrastinate.core import FinishedJob, JobRetry, Readiness, Status, StoredJob
from tests.conformance.runs import Run
from tests.conformance.steps import (
    FUTURE,
    column,
    defer,
    fetch,
    fetch_ids,
    fetch_one,
    finish,
    list_history,
    silence,
    stored,
    worker,
)
from tests.database import new_job


def retry(run: Run, *jobs: StoredJob, **changes: object) -> dict[int, Status]:
    """Retry jobs of one worker, each with the same changes."""
    (worker_id,) = {job.worker_id for job in jobs}
    assert worker_id is not None
    retries = [JobRetry(id=job.id, attempts=job.attempts, **changes) for job in jobs]  # type: ignore[arg-type]
    return run(core.retry_jobs, retries, worker_id=worker_id)


def request_abort(run: Run, job_id: int) -> None:
    """Request the abort of a running job."""
    assert run(core.cancel_job, job_id, abort=True)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.ABORTED])
def test_a_finished_job_keeps_its_outcome(run: Run, status: Status) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    assert finish(run, job, status=status) == {job.id}
    after = stored(run, job.id)
    assert (after.status, after.attempts, after.worker_id) == (status, 1, job.worker_id)
    assert column(run, job.id, "finished_at") is not None


def test_several_outcomes_are_recorded_in_one_call(run: Run) -> None:
    worker_id = worker(run)
    for _ in range(4):
        defer(run)
    jobs = fetch(run, worker_id)
    statuses = [Status.SUCCEEDED, Status.FAILED, Status.ABORTED, Status.SUCCEEDED]
    outcomes = [
        FinishedJob(id=job.id, attempts=0, status=status, delete=job is jobs[3])
        for job, status in zip(jobs, statuses, strict=True)
    ]
    assert run(core.finish_jobs, outcomes, worker_id=worker_id) == {job.id for job in jobs}
    assert [stored(run, job.id).status for job in jobs[:3]] == statuses[:3]
    assert run(core.get_job_status, jobs[3].id) is None


def test_no_outcomes_are_recorded_without_a_statement(run: Run) -> None:
    assert run(core.finish_jobs, [], worker_id=worker(run)) == set()
    assert run(core.retry_jobs, [], worker_id=worker(run)) == {}


def test_a_deleted_job_takes_its_history_along(run: Run) -> None:
    defer(run)
    kept = defer(run)
    job = fetch_one(run, worker(run))
    assert finish(run, job, delete=True) == {job.id}
    assert run(core.get_job_status, job.id) is None
    assert run(list_history, job.id) == []
    assert run(list_history, kept) == ["deferred"]


@pytest.mark.parametrize("delete", [False, True])
def test_the_outcome_of_another_workers_job_is_refused(run: Run, delete: bool) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    stranger = dataclasses.replace(job, worker_id=worker(run))
    assert finish(run, stranger, delete=delete) == set()
    assert retry(run, stranger) == {}
    assert stored(run, job.id) == job


@pytest.mark.parametrize("delete", [False, True])
def test_the_outcome_of_an_earlier_attempt_is_refused(run: Run, delete: bool) -> None:
    """A worker that was pruned as dead cannot overwrite the outcome of a later run, even if that run is its own."""
    defer(run)
    worker_id = worker(run)
    first = fetch_one(run, worker_id)
    assert run(core.retry_job_by_id, first.id)
    second = fetch_one(run, worker_id)
    assert finish(run, first, delete=delete) == set()
    assert retry(run, first) == {}
    assert stored(run, first.id) == second
    assert finish(run, second, delete=delete) == {second.id}


def test_an_outcome_is_recorded_once(run: Run) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    assert finish(run, job) == {job.id}
    assert finish(run, job, status=Status.FAILED) == set()
    assert stored(run, job.id).status == Status.SUCCEEDED


def test_only_the_held_jobs_of_a_batch_are_recorded(run: Run) -> None:
    worker_id = worker(run)
    for _ in range(3):
        defer(run)
    first, second, third = fetch(run, worker_id)
    run(core.finish_job_by_id, second.id, status=Status.FAILED, delete=False)
    assert finish(run, first, second, third) == {first.id, third.id}
    assert stored(run, second.id).status == Status.FAILED


def test_a_requested_abort_is_forgotten_when_the_job_ends(run: Run) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    request_abort(run, job.id)
    finish(run, job, status=Status.ABORTED)
    assert stored(run, job.id).abort_requested is False


def test_a_job_is_sent_back_as_it_is(run: Run) -> None:
    worker_id = worker(run)
    defer(run, priority=3, lock="l", queueing_lock="q", args='{"a": 1}')
    job = fetch_one(run, worker_id)
    assert retry(run, job) == {job.id: Status.TODO}
    after = stored(run, job.id)
    assert after == dataclasses.replace(
        job, status=Status.TODO, attempts=1, worker_id=None, scheduled_at=after.scheduled_at
    )
    assert after.scheduled_at is not None
    assert fetch_ids(run, worker_id) == [job.id]


def test_a_job_is_sent_back_with_changes(run: Run) -> None:
    defer(run, lock="old")
    job = fetch_one(run, worker(run))
    retry(run, job, retry_at=FUTURE, priority=9, queue_name="slow", lock="new")
    after = stored(run, job.id)
    assert (after.scheduled_at, after.priority, after.queue_name, after.lock) == (FUTURE, 9, "slow", "new")


def test_jobs_of_one_batch_are_sent_back_each_with_its_own_changes(run: Run) -> None:
    worker_id = worker(run)
    defer(run)
    defer(run)
    first, second = fetch(run, worker_id)
    retries = [
        JobRetry(id=second.id, attempts=0, priority=2),
        JobRetry(id=first.id, attempts=0, retry_at=FUTURE),
    ]
    assert run(core.retry_jobs, retries, worker_id=worker_id) == {first.id: Status.TODO, second.id: Status.TODO}
    assert (stored(run, first.id).priority, stored(run, first.id).scheduled_at) == (0, FUTURE)
    assert stored(run, second.id).priority == 2


def test_a_job_whose_abort_was_requested_is_not_tried_again(run: Run) -> None:
    worker_id = worker(run)
    defer(run)
    job = fetch_one(run, worker_id)
    request_abort(run, job.id)
    assert retry(run, job) == {job.id: Status.FAILED}
    after = stored(run, job.id)
    assert (after.status, after.attempts, after.abort_requested) == (Status.FAILED, 1, False)
    assert column(run, job.id, "finished_at") is not None
    assert fetch_ids(run, worker_id) == []


def test_a_job_whose_queueing_lock_was_taken_is_sent_back_without_it(run: Run) -> None:
    defer(run, queueing_lock="q")
    job = fetch_one(run, worker(run))
    sibling = defer(run, queueing_lock="q")
    assert retry(run, job) == {job.id: Status.TODO}
    assert (stored(run, job.id).queueing_lock, stored(run, sibling).queueing_lock) == (None, "q")


def test_of_two_jobs_of_one_batch_the_first_gets_their_queueing_lock(run: Run) -> None:
    worker_id = worker(run)
    defer(run, queueing_lock="q")
    first = fetch_one(run, worker_id)
    defer(run, queueing_lock="q")
    second = fetch_one(run, worker_id)
    assert retry(run, second, first) == {first.id: Status.TODO, second.id: Status.TODO}
    assert (stored(run, first.id).queueing_lock, stored(run, second.id).queueing_lock) == ("q", None)


def test_jobs_without_a_queueing_lock_are_sent_back_together(run: Run) -> None:
    worker_id = worker(run)
    run(core.defer_jobs, [new_job(), new_job(), new_job(queueing_lock="q")])
    jobs = fetch(run, worker_id)
    assert set(retry(run, *jobs).values()) == {Status.TODO}
    assert [stored(run, job.id).queueing_lock for job in jobs] == [None, None, "q"]


def test_a_failed_job_is_retried_by_hand(run: Run) -> None:
    worker_id = worker(run)
    defer(run, lock="l", queueing_lock="q")
    finish(run, fetch_one(run, worker_id), status=Status.FAILED)
    assert run(core.retry_job_by_id, 1)
    after = stored(run, 1)
    assert (after.status, after.attempts, after.queueing_lock) == (Status.TODO, 1, "q")
    assert column(run, 1, "finished_at") is None
    assert fetch_ids(run, worker_id) == [1]


def test_a_running_job_is_retried_by_hand_with_changes(run: Run) -> None:
    defer(run, lock="l")
    job = fetch_one(run, worker(run))
    request_abort(run, job.id)
    assert run(core.retry_job_by_id, job.id, retry_at=FUTURE, priority=4, queue_name="slow", lock="new")
    after = stored(run, job.id)
    assert (after.status, after.attempts, after.worker_id, after.abort_requested) == (Status.TODO, 1, None, False)
    assert (after.scheduled_at, after.priority, after.queue_name, after.lock) == (FUTURE, 4, "slow", "new")


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.CANCELLED, Status.ABORTED])
def test_a_job_that_has_not_failed_is_not_retried_by_hand(run: Run, status: Status) -> None:
    job_id = defer(run)
    assert not run(core.retry_job_by_id, job_id)
    run(core.finish_job_by_id, job_id, status=status, delete=False)
    assert not run(core.retry_job_by_id, job_id)
    assert not run(core.retry_job_by_id, 12345)


def test_a_job_is_retried_by_hand_without_a_taken_queueing_lock(run: Run) -> None:
    defer(run, queueing_lock="q")
    job = fetch_one(run, worker(run))
    finish(run, job, status=Status.FAILED)
    defer(run, queueing_lock="q")
    with run.transaction():
        assert run(core.retry_job_by_id, job.id)
    assert stored(run, job.id).queueing_lock is None


def test_a_retried_job_whose_lock_is_held_is_parked_again(run: Run) -> None:
    worker_id = worker(run)
    first, second = defer(run, lock="l"), defer(run, lock="l")
    finish(run, fetch_one(run, worker_id), status=Status.FAILED)
    assert fetch_one(run, worker_id).id == second
    assert run(core.retry_job_by_id, first)
    assert fetch_ids(run, worker_id) == []
    assert Readiness(column(run, first, "readiness")) == Readiness.PARKED


@pytest.mark.parametrize("running", [False, True])
def test_a_job_is_finished_by_id(run: Run, running: bool) -> None:
    job_id = defer(run)
    if running:
        fetch_one(run, worker(run))
    assert run(core.finish_job_by_id, job_id, status=Status.FAILED, delete=False)
    assert (stored(run, job_id).status, stored(run, job_id).attempts) == (Status.FAILED, int(running))
    assert column(run, job_id, "finished_at") is not None
    assert not run(core.finish_job_by_id, job_id, status=Status.SUCCEEDED, delete=False)
    assert not run(core.finish_job_by_id, job_id, status=Status.SUCCEEDED, delete=True)


def test_a_job_is_deleted_by_id(run: Run) -> None:
    job_id = defer(run)
    assert run(core.finish_job_by_id, job_id, status=Status.SUCCEEDED, delete=True)
    assert run(core.get_job_status, job_id) is None
    assert not run(core.finish_job_by_id, job_id, status=Status.SUCCEEDED, delete=True)


def test_a_retry_by_hand_can_spare_a_job_whose_worker_is_alive(run: Run) -> None:
    """A retry of such a job would make it run twice at once."""
    worker_id = worker(run)
    job_id = defer(run)
    fetch_one(run, worker_id)
    assert not run(core.retry_job_by_id, job_id, spare_running=True)
    silence(run, worker_id)
    assert run(core.retry_job_by_id, job_id, spare_running=True)
    fetch_one(run, worker_id)
    assert run(core.retry_job_by_id, job_id)
