"""Fetching jobs, and promoting jobs that wait for their time or their lock."""

from __future__ import annotations

import pytest

from procrastinate import core
from procrastinate._checks.times import utcnow
from procrastinate.core import Rank, Readiness, Status
from tests.conformance.runs import Run
from tests.conformance.steps import (
    FUTURE,
    HOUR,
    PAST,
    change,
    column,
    defer,
    fetch,
    fetch_ids,
    fetch_one,
    finish,
    readiness,
    settle,
    stored,
    worker,
)
from tests.database import new_job


def test_a_fetched_job_belongs_to_the_worker(run: Run) -> None:
    worker_id = worker(run)
    job_id = defer(run, args='{"a": 1}')
    (job,) = run(core.fetch_jobs, worker_id=worker_id, limit=1)
    assert job == stored(run, job_id)
    assert (job.status, job.worker_id, job.attempts) == (Status.DOING, worker_id, 0)


def test_a_job_is_fetched_once(run: Run) -> None:
    worker_id = worker(run)
    defer(run)
    assert len(run(core.fetch_jobs, worker_id=worker_id, limit=10)) == 1
    assert run(core.fetch_jobs, worker_id=worker_id, limit=10) == []


def test_the_queue_may_be_empty(run: Run) -> None:
    assert run(core.fetch_jobs, worker_id=worker(run), limit=10) == []


@pytest.mark.parametrize("queues", [None, ["default"], ["default", "other"]], ids=["all", "one", "many"])
def test_jobs_come_by_priority_and_then_by_id(run: Run, queues: list[str] | None) -> None:
    low, first, second, high = (defer(run, priority=priority) for priority in (-1, 0, 0, 5))
    assert fetch_ids(run, worker(run), queues=queues) == [high, first, second, low]


@pytest.mark.parametrize("queues", [None, ["default"], ["default", "other"]], ids=["all", "one", "many"])
def test_no_more_than_the_limit_is_fetched(run: Run, queues: list[str] | None) -> None:
    worker_id = worker(run)
    ids = run(core.defer_jobs, [new_job() for _ in range(5)])
    assert fetch_ids(run, worker_id, limit=2, queues=queues) == ids[:2]
    assert fetch_ids(run, worker_id, limit=2, queues=queues) == ids[2:4]
    assert fetch_ids(run, worker_id, limit=2, queues=queues) == ids[4:]


def test_only_the_asked_queues_are_fetched_from(run: Run) -> None:
    worker_id = worker(run)
    ids = {name: defer(run, queue_name=name) for name in ("a", "b", "c", "d")}
    assert fetch_ids(run, worker_id, queues=["b"]) == [ids["b"]]
    assert fetch_ids(run, worker_id, queues=["c", "a", "other"]) == [ids["a"], ids["c"]]
    assert fetch_ids(run, worker_id) == [ids["d"]]


def test_several_queues_are_merged_by_priority_and_id(run: Run) -> None:
    names = ["a", "b", "a", "b", "c"]
    ids = [
        defer(run, queue_name=name, priority=priority) for name, priority in zip(names, (0, 5, 5, 0, 9), strict=True)
    ]
    assert fetch_ids(run, worker(run), queues=["a", "b"]) == [ids[1], ids[2], ids[0], ids[3]]


def test_a_limit_over_several_queues_takes_the_most_important(run: Run) -> None:
    ids = [defer(run, queue_name=name, priority=priority) for name in ("a", "b") for priority in (1, 2, 3)]
    assert fetch_ids(run, worker(run), limit=2, queues=["a", "b"]) == [ids[2], ids[5]]


def test_a_queue_named_twice_counts_once(run: Run) -> None:
    ids = run(core.defer_jobs, [new_job() for _ in range(3)])
    assert fetch_ids(run, worker(run), limit=3, queues=["default", "default"]) == ids


def test_no_queues_are_no_jobs(run: Run) -> None:
    defer(run)
    assert fetch(run, worker(run), queues=[]) == []


@pytest.mark.parametrize("queues", [None, ["default"], ["default", "other"]], ids=["all", "one", "many"])
def test_an_unknown_worker_gets_nothing(run: Run, queues: list[str] | None) -> None:
    job_id = defer(run)
    worker_id = worker(run)
    run(core.unregister_worker, worker_id)
    assert fetch(run, worker_id, queues=queues) == []
    assert stored(run, job_id).status == Status.TODO


def test_a_scheduled_job_waits_for_its_time(run: Run) -> None:
    worker_id = worker(run)
    job_id = defer(run, scheduled_at=FUTURE)
    assert settle(run) == 0
    assert run(core.fetch_jobs, worker_id=worker_id, limit=10) == []
    change(run, job_id, scheduled_at=PAST)
    assert fetch_ids(run, worker_id) == [job_id]


def test_a_due_job_is_fetched_only_after_its_promotion(run: Run) -> None:
    worker_id = worker(run)
    job_id = defer(run, scheduled_at=PAST)
    assert run(core.fetch_jobs, worker_id=worker_id, limit=10) == []
    assert run(core.promote_jobs).promoted == 1
    assert [job.id for job in run(core.fetch_jobs, worker_id=worker_id, limit=10)] == [job_id]


def test_promoted_and_free_jobs_are_merged_by_priority_and_id(run: Run) -> None:
    low, locked, due = (
        defer(run, priority=0),
        defer(run, priority=1, lock="l"),
        defer(run, priority=1, scheduled_at=PAST),
    )
    high = defer(run, priority=2)
    assert fetch_ids(run, worker(run)) == [high, locked, due, low]


def test_promotion_is_bounded(run: Run) -> None:
    run(core.defer_jobs, [new_job(scheduled_at=PAST) for _ in range(5)])
    assert [run(core.promote_jobs, limit=2).promoted for _ in range(4)] == [2, 2, 1, 0]


def test_a_full_promotion_asks_to_be_called_again(run: Run) -> None:
    run(core.defer_jobs, [new_job(scheduled_at=PAST) for _ in range(3)])
    assert [run(core.promote_jobs, limit=2).again for _ in range(2)] == [True, False]


def test_the_order_of_a_lock_holds_while_a_backlog_is_looked_at_in_steps(run: Run) -> None:
    """A parked job starts before jobs that no promotion has looked at yet."""
    ids = [defer(run, lock="a") for _ in range(5)]
    urgent = defer(run, lock="a", priority=1)
    worker_id = worker(run)
    fetched = []
    for _ in range(6):
        while run(core.promote_jobs, limit=2).promoted:
            pass
        (job,) = run(core.fetch_jobs, worker_id=worker_id, limit=10)
        finish(run, job)
        fetched.append(job.id)
    assert fetched == [urgent, *ids]


def test_promotion_tells_when_the_next_job_is_due(run: Run) -> None:
    assert run(core.promote_jobs).next_due_in is None
    job_id = defer(run, scheduled_at=FUTURE)
    change(run, job_id, scheduled_at=utcnow() + HOUR)
    next_due_in = run(core.promote_jobs).next_due_in
    assert next_due_in == pytest.approx(HOUR.total_seconds(), abs=30)


def test_the_longest_due_are_promoted_first(run: Run) -> None:
    late, later = defer(run, scheduled_at=PAST + HOUR), defer(run, scheduled_at=PAST)
    run(core.promote_jobs, limit=1)
    assert (readiness(run, later), readiness(run, late)) == (Readiness.PROMOTED, Readiness.UNDECIDED)


def test_one_job_of_a_lock_runs_at_a_time(run: Run) -> None:
    worker_id = worker(run)
    first, second = defer(run, lock="l"), defer(run, lock="l")
    job = fetch_one(run, worker_id)
    assert job.id == first
    assert fetch(run, worker_id) == []
    assert readiness(run, second) == Readiness.PARKED
    finish(run, job)
    assert fetch_ids(run, worker_id) == [second]


def test_jobs_of_different_locks_do_not_wait_for_each_other(run: Run) -> None:
    ids = [defer(run, lock=lock) for lock in ("a", "b", "a", "c")]
    assert fetch_ids(run, worker(run)) == [ids[0], ids[1], ids[3]]


def test_a_lock_is_held_across_queues(run: Run) -> None:
    worker_id = worker(run)
    first, second = defer(run, lock="l", queue_name="a"), defer(run, lock="l", queue_name="b")
    assert fetch_ids(run, worker_id, queues=["b"]) == []
    job = fetch_one(run, worker_id)
    assert job.id == first
    finish(run, job)
    assert fetch_ids(run, worker_id, queues=["b"]) == [second]


def test_the_first_of_a_lock_is_the_most_important(run: Run) -> None:
    worker_id = worker(run)
    ids = [defer(run, lock="l", priority=priority) for priority in (1, 3, 2, 3)]
    order = []
    for _ in ids:
        job = fetch_one(run, worker_id)
        order.append(job.id)
        finish(run, job)
    assert order == [ids[1], ids[3], ids[2], ids[0]]


def test_a_scheduled_job_does_not_hold_its_lock_before_its_time(run: Run) -> None:
    worker_id = worker(run)
    future = defer(run, lock="l", scheduled_at=FUTURE, priority=9)
    ready = defer(run, lock="l")
    assert fetch_ids(run, worker_id) == [ready]
    assert readiness(run, future) == Readiness.UNDECIDED


def test_a_job_that_outranks_a_lock_holder_that_has_not_started_goes_first(run: Run) -> None:
    worker_id = worker(run)
    low = defer(run, lock="l")
    settle(run)
    assert readiness(run, low) == Readiness.PROMOTED

    high = defer(run, lock="l", priority=1)
    assert fetch_ids(run, worker_id) == [high]
    assert readiness(run, low) == Readiness.PARKED


def test_a_job_that_comes_later_does_not_outrank_an_equal(run: Run) -> None:
    first = defer(run, lock="l")
    settle(run)
    defer(run, lock="l")
    assert fetch_ids(run, worker(run)) == [first]


def test_a_running_job_is_not_outranked(run: Run) -> None:
    worker_id = worker(run)
    low = fetch_one(run, worker_id) if defer(run, lock="l") else None
    assert low is not None
    high = defer(run, lock="l", priority=1)
    assert fetch_ids(run, worker_id) == []
    assert (stored(run, low.id).status, readiness(run, high)) == (Status.DOING, Readiness.PARKED)


def test_outranking_passes_the_lock_on_among_many(run: Run) -> None:
    """The outranked holder waits behind all jobs that outrank it, and in front of the others."""
    worker_id = worker(run)
    middle = defer(run, lock="l", priority=5)
    settle(run)
    low, high = defer(run, lock="l", priority=1), defer(run, lock="l", priority=9)
    order = []
    for _ in range(3):
        job = fetch_one(run, worker_id)
        order.append(job.id)
        finish(run, job)
    assert order == [high, middle, low]


@pytest.mark.parametrize("leave", ["finish", "delete", "retry", "cancel", "cancel and delete", "rescue", "plain SQL"])
def test_the_next_job_has_the_lock_when_the_holder_leaves(run: Run, leave: str) -> None:
    worker_id = worker(run)
    holder, next_job, last = (defer(run, lock="l") for _ in range(3))
    settle(run)
    if leave in ("finish", "delete", "retry", "rescue", "plain SQL"):
        (job,) = run(core.fetch_jobs, worker_id=worker_id, limit=1)
        assert job.id == holder
    if leave == "finish":
        finish(run, job)
    elif leave == "delete":
        finish(run, job, delete=True)
    elif leave == "retry":
        run(core.retry_jobs, [core.JobRetry(id=job.id, attempts=0, retry_at=FUTURE)], worker_id=worker_id)
    elif leave == "rescue":
        run(core.unregister_worker, worker_id)
        run(core.rescue_jobs, max_rescues=0)
        worker_id = worker(run)
    elif leave == "plain SQL":
        change(run, holder, status=Status.FAILED)
    else:
        assert run(core.cancel_job, holder, delete=leave == "cancel and delete")
    assert (readiness(run, next_job), readiness(run, last)) == (Readiness.PROMOTED, Readiness.PARKED)
    assert fetch_ids(run, worker_id) == [next_job]


def test_a_retried_holder_that_is_due_at_once_keeps_its_place(run: Run) -> None:
    worker_id = worker(run)
    holder, other = defer(run, lock="l"), defer(run, lock="l")
    job = fetch_one(run, worker_id)
    run(core.retry_jobs, [core.JobRetry(id=job.id, attempts=0)], worker_id=worker_id)
    assert fetch_ids(run, worker_id) == [holder]
    assert readiness(run, other) == Readiness.PARKED


def test_a_parked_job_can_be_cancelled(run: Run) -> None:
    worker_id = worker(run)
    _, parked, last = (defer(run, lock="l") for _ in range(3))
    job = fetch_one(run, worker_id)
    assert run(core.cancel_job, parked)
    finish(run, job)
    assert fetch_ids(run, worker_id) == [last]


def test_many_holders_that_finish_at_once_each_let_the_next_go(run: Run) -> None:
    worker_id = worker(run)
    run(core.defer_jobs, [new_job(lock=f"lock {number % 4}") for number in range(8)])
    finish(run, *fetch(run, worker_id))
    assert fetch_ids(run, worker_id) == [5, 6, 7, 8]


def test_one_job_of_a_lock_is_promoted_however_many_are_due(run: Run) -> None:
    first, *others = run(core.defer_jobs, [new_job(lock="l") for _ in range(30)])
    assert settle(run) == 1
    assert readiness(run, first) == Readiness.PROMOTED
    assert {readiness(run, job_id) for job_id in others} == {Readiness.PARKED}


def test_a_job_with_the_empty_lock_is_a_locked_job(run: Run) -> None:
    worker_id = worker(run)
    first, second = defer(run, lock=""), defer(run, lock="")
    job = fetch_one(run, worker_id)
    assert (job.id, fetch_ids(run, worker_id)) == (first, [])
    finish(run, job)
    assert fetch_ids(run, worker_id) == [second]


def test_the_promotion_of_a_locked_job_keeps_the_row_otherwise(run: Run) -> None:
    job_id = defer(run, lock="l", scheduled_at=PAST, queueing_lock="q", priority=3)
    before = stored(run, job_id)
    settle(run)
    assert stored(run, job_id) == before
    assert column(run, job_id, "finished_at") is None


@pytest.mark.parametrize("queues", [None, ["default"]])
def test_a_fetch_goes_on_after_a_place(run: Run, queues: list[str] | None) -> None:
    """The fetch continues after a position in the queue, and skips the jobs before it."""
    worker_id = worker(run)
    first, second, third = (defer(run) for _ in range(3))
    low, high = defer(run, priority=-1), defer(run, priority=1)
    place = Rank(priority=0, id=first)
    fetched = run(core.fetch_jobs, worker_id=worker_id, limit=2, queues=queues, after=place)
    assert [job.id for job in fetched] == [high, second]
    fetched = run(core.fetch_jobs, worker_id=worker_id, limit=5, queues=queues, after=place)
    assert [job.id for job in fetched] == [third]
    assert fetch_ids(run, worker_id) == [first, low]


def test_from_several_queues_a_fetch_takes_all_that_is_ready(run: Run) -> None:
    worker_id = worker(run)
    job_ids = [defer(run), defer(run, queue_name="other")]
    queues = ["default", "other"]
    fetched = run(core.fetch_jobs, worker_id=worker_id, limit=5, queues=queues, after=Rank(priority=0, id=job_ids[1]))
    assert [job.id for job in fetched] == job_ids
