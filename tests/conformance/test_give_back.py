"""Releasing fetched jobs."""

from __future__ import annotations

import dataclasses

from procrastinate import core
from procrastinate.core import FetchedJob, Status, StoredJob
from tests.conformance.runs import Run
from tests.conformance.steps import (
    PAST,
    column,
    defer,
    fetch,
    fetch_ids,
    fetch_one,
    finish,
    list_history,
    stored,
    worker,
)


def release(run: Run, *jobs: StoredJob, keep_queueing_locks: bool = True) -> dict[int, Status]:
    """Release jobs that one worker has fetched."""
    (worker_id,) = {job.worker_id for job in jobs}
    assert worker_id is not None
    fetched = [FetchedJob(id=job.id, attempts=job.attempts) for job in jobs]
    return run(core.release_jobs, fetched, worker_id=worker_id, keep_queueing_locks=keep_queueing_locks)


def test_a_job_released_waits_as_before_and_no_attempt_is_counted(run: Run) -> None:
    job_id = defer(run, priority=3, queue_name="q", queueing_lock="only one")
    before = stored(run, job_id)
    job = fetch_one(run, worker(run))
    assert release(run, job) == {job_id: Status.TODO}
    assert stored(run, job_id) == before
    assert fetch_ids(run, worker(run)) == [job_id]


def test_a_job_released_with_a_delay_waits_for_its_time(run: Run) -> None:
    job_id = defer(run, lock="l", queueing_lock="only one")
    job = fetch_one(run, worker(run))
    fetched = [FetchedJob(id=job.id, attempts=job.attempts)]
    assert run(core.release_jobs, fetched, worker_id=job.worker_id, delay=3600.0) == {job_id: Status.TODO}
    assert (run(core.promote_jobs, limit=10).promoted, fetch_ids(run, worker(run))) == (0, [])
    waits = stored(run, job_id)
    assert (waits.attempts, waits.lock, waits.queueing_lock) == (0, "l", "only one")
    assert waits.scheduled_at is not None
    assert run(list_history, job_id) == ["deferred", "started", "deferred_for_retry", "scheduled"]


def test_a_delayed_job_does_not_hold_up_the_others_of_its_lock(run: Run) -> None:
    defer(run, lock="l")
    second = defer(run, lock="l")
    job = fetch_one(run, worker(run))
    fetched = [FetchedJob(id=job.id, attempts=job.attempts)]
    run(core.release_jobs, fetched, worker_id=job.worker_id, delay=3600.0)
    assert [job.id for job in fetch(run, worker(run))] == [second]


def test_the_history_of_a_released_job_says_that_it_was_taken_and_waits_again(run: Run) -> None:
    job_id = defer(run)
    release(run, fetch_one(run, worker(run)))
    assert run(list_history, job_id) == ["deferred", "started", "deferred_for_retry"]


def test_a_scheduled_job_with_a_lock_is_ready_at_once(run: Run) -> None:
    """The job was due and held its lock, so it needs no second promotion."""
    job_id = defer(run, lock="l", scheduled_at=PAST)
    job = fetch_one(run, worker(run))
    release(run, job)
    (again,) = run(core.fetch_jobs, worker_id=worker(run), limit=10)
    assert (again.id, again.scheduled_at) == (job_id, PAST)


def test_the_jobs_of_its_lock_keep_their_order(run: Run) -> None:
    first, second = defer(run, lock="l"), defer(run, lock="l")
    release(run, fetch_one(run, worker(run)))
    worker_id = worker(run)
    (job,) = fetch(run, worker_id)
    assert job.id == first
    finish(run, job)
    assert fetch_ids(run, worker_id) == [second]


def test_a_new_job_with_higher_priority_starts_before_the_released_one(run: Run) -> None:
    defer(run, lock="l")
    job = fetch_one(run, worker(run))
    urgent = defer(run, lock="l", priority=1)
    release(run, job)
    assert fetch_ids(run, worker(run)) == [urgent]


def test_a_job_whose_abort_was_requested_ends_as_aborted(run: Run) -> None:
    kept, job_id = defer(run), defer(run)
    jobs = fetch(run, worker(run))
    assert run(core.cancel_job, job_id, abort=True)
    assert release(run, *jobs) == {kept: Status.TODO, job_id: Status.ABORTED}
    assert column(run, job_id, "finished_at") is not None
    assert not stored(run, job_id).abort_requested


def test_a_queueing_lock_that_another_has_taken_is_lost(run: Run) -> None:
    job_id = defer(run, queueing_lock="q")
    job = fetch_one(run, worker(run))
    waiting = defer(run, queueing_lock="q")
    assert release(run, job) == {job_id: Status.TODO}
    assert (stored(run, job_id).queueing_lock, stored(run, waiting).queueing_lock) == (None, "q")


def test_of_two_that_share_a_queueing_lock_the_first_gets_it_back(run: Run) -> None:
    worker_id = worker(run)
    first = defer(run, queueing_lock="q")
    (one,) = fetch(run, worker_id)
    second = defer(run, queueing_lock="q")
    (two,) = fetch(run, worker_id)
    release(run, two, one)
    assert (stored(run, first).queueing_lock, stored(run, second).queueing_lock) == ("q", None)


def test_all_can_go_back_without_their_queueing_locks(run: Run) -> None:
    job_id = defer(run, queueing_lock="q")
    release(run, fetch_one(run, worker(run)), keep_queueing_locks=False)
    assert stored(run, job_id).queueing_lock is None


def test_only_the_jobs_that_it_holds_are_released(run: Run) -> None:
    worker_id = worker(run)
    for _ in range(4):
        defer(run)
    kept, ended, taken, retried = fetch(run, worker_id)
    finish(run, ended)
    run(core.retry_job_by_id, taken.id)
    run(core.retry_job_by_id, retried.id)
    (stolen, fetched_again) = fetch(run, worker_id)
    assert release(run, ended, taken, retried) == {}
    assert [stored(run, job.id) for job in (stolen, fetched_again)] == [stolen, fetched_again]
    stranger = dataclasses.replace(kept, worker_id=worker(run))
    assert release(run, stranger) == {}
    assert release(run, kept) == {kept.id: Status.TODO}


def test_nothing_is_released_without_a_statement(run: Run) -> None:
    assert run(core.release_jobs, [], worker_id=worker(run)) == {}


def test_a_worker_lists_the_jobs_that_it_has_fetched_and_does_not_know_of(run: Run) -> None:
    """The list omits jobs that the worker knows, jobs that wait or have ended, and jobs of other workers."""
    mine, other = worker(run), worker(run)
    for _ in range(6):
        defer(run)
    known, ended, retried, unknown = fetch(run, mine, limit=4)
    fetch_one(run, other)
    finish(run, ended)
    run(core.retry_job_by_id, retried.id)
    (again, *_) = [job for job in fetch(run, mine) if job.id == retried.id]
    found = run(core.list_unknown_jobs, worker_id=mine, known_ids={known.id, 6})
    assert sorted(found, key=lambda job: job.id) == [
        FetchedJob(id=again.id, attempts=1),
        FetchedJob(id=unknown.id, attempts=0),
    ]
    assert {job.id for job in run(core.list_unknown_jobs, worker_id=other, known_ids=[])} == {5}
