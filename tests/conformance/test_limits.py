"""Limits: how many jobs have a slot at once, and who is next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from procrastinate import core
from procrastinate.core import FetchedJob, JobRetry, LimitDefinition, RateTerms, Readiness, Status
from tests.conformance.runs import Run
from tests.conformance.steps import FUTURE, change, defer, fetch_ids, finish, readiness, settle, worker
from tests.database import new_job


def define(run: Run, name: str = "l", **numbers: Any) -> None:
    """Store a limit of the code."""
    run(core.define_limits, [LimitDefinition(name=name, **numbers)])


def limited(run: Run, key: str = "k", *, name: str = "l", **job: Any) -> int:
    """Defer a job with a limit."""
    return defer(run, limit_name=name, limit_key=key, **job)


def places(run: Run, *job_ids: int) -> list[int]:
    return [readiness(run, job_id) for job_id in job_ids]


def test_no_more_jobs_of_a_key_have_a_slot_than_the_limit_says(run: Run) -> None:
    define(run, concurrency=2)
    ids = [limited(run) for _ in range(4)]
    other = limited(run, "another key")
    assert fetch_ids(run, worker(run)) == [*ids[:2], other]
    assert places(run, *ids[2:]) == [Readiness.IN_LINE, Readiness.IN_LINE]
    assert run(core.sweep_lines).opened == 0


@pytest.mark.parametrize("leave", ["finish", "delete", "retry", "release", "cancel", "rescue", "plain SQL"])
def test_the_next_job_in_line_has_the_slot_when_a_job_leaves(run: Run, leave: str) -> None:
    define(run, concurrency=1)
    first, second, third = (limited(run) for _ in range(3))
    worker_id = worker(run)
    settle(run)
    if leave != "cancel":
        (job,) = run(core.fetch_jobs, worker_id=worker_id, limit=5)
        assert job.id == first
    if leave in ("finish", "delete"):
        finish(run, job, delete=leave == "delete")
    elif leave == "retry":
        run(core.retry_jobs, [JobRetry(id=first, attempts=0, retry_at=FUTURE)], worker_id=worker_id)
    elif leave == "release":
        run(core.release_jobs, [FetchedJob(id=first, attempts=0)], worker_id=worker_id, delay=3600)
    elif leave == "cancel":
        assert run(core.cancel_job, first)
    elif leave == "rescue":
        run(core.unregister_worker, worker_id)
        run(core.rescue_jobs, max_rescues=0)
    else:
        change(run, first, status=Status.FAILED)
    assert places(run, second, third) == [Readiness.PROMOTED, Readiness.IN_LINE]
    assert run(core.show_limit, "l", "k").held == 1


def test_a_released_job_keeps_its_slot(run: Run) -> None:
    define(run, concurrency=1)
    first, second = limited(run), limited(run)
    worker_id = worker(run)
    assert fetch_ids(run, worker_id) == [first]
    run(core.release_jobs, [FetchedJob(id=first, attempts=0)], worker_id=worker_id)
    assert places(run, first, second) == [Readiness.PROMOTED, Readiness.IN_LINE]
    assert fetch_ids(run, worker_id) == [first]


@pytest.mark.parametrize("number", ["concurrency", "total"])
def test_jobs_that_a_worker_releases_above_a_lower_limit_get_in_line(run: Run, number: str) -> None:
    define(run, **{number: 5})
    ids = [limited(run) for _ in range(5)]
    worker_id = worker(run)
    assert fetch_ids(run, worker_id) == ids
    run(core.set_limit, LimitDefinition(name="l", **{number: 2}))
    unstarted = [FetchedJob(id=job_id, attempts=0) for job_id in ids[1:]]
    run(core.release_jobs, unstarted, worker_id=worker_id)
    started = [job.id for job in run(core.fetch_jobs, worker_id=worker_id, limit=10)]
    assert [*started, *fetch_ids(run, worker_id)] == ids[1:2]


def test_a_line_is_in_the_order_of_priorities_and_ids(run: Run) -> None:
    define(run, concurrency=1)
    low, equal, high = limited(run), limited(run), limited(run, priority=1)
    worker_id = worker(run)
    order = []
    for _ in range(3):
        settle(run)
        (job,) = run(core.fetch_jobs, worker_id=worker_id, limit=5)
        order.append(job.id)
        finish(run, job)
    assert order == [high, low, equal]


def test_a_scheduled_job_gets_in_line_when_it_is_due(run: Run) -> None:
    define(run, concurrency=1)
    running, scheduled = limited(run), limited(run, scheduled_at=FUTURE)
    worker_id = worker(run)
    assert fetch_ids(run, worker_id) == [running]
    assert readiness(run, scheduled) == Readiness.UNDECIDED
    change(run, scheduled, scheduled_at=FUTURE.replace(year=2000))
    assert fetch_ids(run, worker_id) == []
    assert readiness(run, scheduled) == Readiness.IN_LINE


def test_jobs_of_a_limit_without_a_definition_wait_and_are_listed(run: Run) -> None:
    job_id = limited(run, name="unknown")
    assert fetch_ids(run, worker(run)) == []
    (stored,) = run(core.list_limits)
    assert (stored.name, stored.is_defined, stored.held, stored.in_line) == ("unknown", False, 0, 1)
    assert run(core.sweep_lines).undefined == ("unknown",)
    define(run, "unknown", concurrency=1)
    assert fetch_ids(run, worker(run)) == [job_id]


def test_a_lower_limit_lets_no_job_start_until_fewer_run(run: Run) -> None:
    define(run, concurrency=3)
    ids = [limited(run) for _ in range(5)]
    worker_id = worker(run)
    settle(run)
    jobs = run(core.fetch_jobs, worker_id=worker_id, limit=5)
    assert [job.id for job in jobs] == ids[:3]
    run(core.set_limit, LimitDefinition(name="l", concurrency=1))
    for job in jobs[:2]:
        finish(run, job)
        assert fetch_ids(run, worker_id) == []
    finish(run, jobs[2])
    assert fetch_ids(run, worker_id) == [ids[3]]


def _set(run: Run, low: LimitDefinition) -> None:
    run(core.set_limit, low)


def _define(run: Run, low: LimitDefinition) -> None:
    run(core.define_limits, [low])


@pytest.mark.parametrize("lower", [_set, _define])
@pytest.mark.parametrize(
    ("high", "low"),
    [
        ({"concurrency": 4}, {"concurrency": 1}),
        ({"total": 4}, {"total": 1}),
        ({"rates": (RateTerms(4, 3600.0),)}, {"rates": (RateTerms(1, 3600.0),)}),
        ({"total_rates": (RateTerms(4, 3600.0),)}, {"total_rates": (RateTerms(1, 3600.0),)}),
    ],
)
def test_a_lower_limit_takes_slots_back_from_jobs_that_have_not_started(
    run: Run, lower: Callable[[Run, LimitDefinition], None], high: dict[str, Any], low: dict[str, Any]
) -> None:
    define(run, **high)
    ids = [limited(run, priority=priority) for priority in (0, 0, 1, 0)]
    settle(run)
    assert places(run, *ids) == [Readiness.PROMOTED] * 4
    lower(run, LimitDefinition(name="l", **low))
    settle(run)
    assert fetch_ids(run, worker(run)) == [ids[2]]
    assert places(run, ids[0], ids[1], ids[3]) == [Readiness.IN_LINE] * 3


def test_a_raised_limit_and_one_that_is_reset_hold_at_once(run: Run) -> None:
    define(run, concurrency=1)
    ids = [limited(run) for _ in range(4)]
    worker_id = worker(run)
    assert fetch_ids(run, worker_id) == ids[:1]
    run(core.set_limit, LimitDefinition(name="l", concurrency=3))
    assert fetch_ids(run, worker_id) == ids[1:3]
    assert run(core.reset_limit, "l")
    assert [(one.concurrency, one.is_set) for one in run(core.list_limits)] == [(1, False)]
    assert not run(core.reset_limit, "another")


def test_jobs_wait_if_the_only_numbers_of_a_limit_are_reset(run: Run) -> None:
    run(core.set_limit, LimitDefinition(name="l", concurrency=1))
    ids = [limited(run) for _ in range(3)]
    worker_id = worker(run)
    settle(run)
    (job,) = run(core.fetch_jobs, worker_id=worker_id, limit=5)
    assert job.id == ids[0]
    assert run(core.reset_limit, "l")
    assert fetch_ids(run, worker_id) == []
    assert [(one.is_defined, one.held, one.in_line) for one in run(core.list_limits)] == [(False, 1, 2)]
    assert run(core.sweep_lines).undefined == ("l",)
    assert fetch_ids(run, worker_id) == []
    define(run, concurrency=2)
    assert fetch_ids(run, worker_id) == ids[1:2]


def test_what_an_operator_has_set_outlives_a_new_definition(run: Run) -> None:
    run(core.set_limit, LimitDefinition(name="l", concurrency=7))
    define(run, concurrency=1)
    assert [(one.concurrency, one.is_set) for one in run(core.list_limits)] == [(7, True)]


def test_a_limit_over_all_keys_goes_to_the_key_that_has_the_fewest(run: Run) -> None:
    define(run, total=3)
    big = [limited(run, "big") for _ in range(6)]
    worker_id = worker(run)
    settle(run)
    jobs = run(core.fetch_jobs, worker_id=worker_id, limit=10)
    assert [job.id for job in jobs] == big[:3]
    small = [limited(run, key) for key in ("small", "smaller")]
    for job in jobs[:2]:
        finish(run, job)
    assert fetch_ids(run, worker_id) == small
    assert [(one.held, one.in_line) for one in run(core.list_limits)] == [(3, 3)]


def test_both_numbers_of_a_limit_hold(run: Run) -> None:
    define(run, concurrency=2, total=3)
    first, second = [[limited(run, key) for _ in range(3)] for key in "ab"]
    assert fetch_ids(run, worker(run)) == [*first[:2], second[0]]


def test_a_job_with_a_slot_waits_for_its_lock_without_the_slot(run: Run) -> None:
    define(run, concurrency=2)
    holder = defer(run, lock="m")
    worker_id = worker(run)
    settle(run)
    (job,) = run(core.fetch_jobs, worker_id=worker_id, limit=5)
    assert job.id == holder
    locked, free, last = limited(run, lock="m"), limited(run), limited(run)
    assert fetch_ids(run, worker_id) == [free, last]
    assert readiness(run, locked) == Readiness.PARKED
    finish(run, job)
    assert fetch_ids(run, worker_id) == []
    assert readiness(run, locked) == Readiness.IN_LINE


def test_a_replaced_job_has_the_limit_of_the_new_one(run: Run) -> None:
    define(run, concurrency=1)
    running = limited(run)
    worker_id = worker(run)
    assert fetch_ids(run, worker_id) == [running]
    (waiting,) = run(core.defer_jobs_or_replace, [new_job(queueing_lock="q")])
    replace = new_job(queueing_lock="q", limit_name="l", limit_key="k")
    assert run(core.defer_jobs_or_replace, [replace]) == [waiting]
    assert fetch_ids(run, worker_id) == []
    assert run(core.defer_jobs_or_replace, [new_job(queueing_lock="q")]) == [waiting]
    assert fetch_ids(run, worker_id) == [waiting]


def test_a_key_shows_who_has_a_slot_and_who_is_next(run: Run) -> None:
    define(run, concurrency=2)
    ids = [limited(run) for _ in range(4)]
    settle(run)
    assert fetch_ids(run, worker(run), limit=1) == ids[:1]
    shown = run(core.show_limit, "l", "k")
    assert (shown.held, shown.running, shown.in_line) == (2, 1, 2)
    assert (shown.oldest_id, shown.next_id) == (ids[0], ids[2])


def settle_while_paused(run: Run, *paused: str) -> None:
    """Promote and admit like a worker that knows these pauses, until nothing is left to decide."""
    for _ in range(20):
        promotion = run(core.promote_jobs, paused=paused)
        admission = run(core.admit_jobs, paused=paused) if promotion.has_openings else core.Admission()
        if not promotion.again and not admission.again:
            return
    raise AssertionError("the admissions come to no end")


def test_a_job_of_a_paused_queue_has_no_slot_until_its_queue_goes_on(run: Run) -> None:
    define(run, concurrency=1)
    run(core.pause_queue, "mail")
    waiting, open_one = limited(run, queue_name="mail", priority=9), limited(run)
    worker_id = worker(run)
    settle_while_paused(run, "mail")
    (job,) = run(core.fetch_jobs, worker_id=worker_id, limit=5)
    assert job.id == open_one
    finish(run, job)
    settle_while_paused(run, "mail")
    assert run(core.show_limit, "l", "k").held == 0
    run(core.resume_queue, "mail")
    run(core.unpark_resumed_jobs)
    assert fetch_ids(run, worker_id) == [waiting]


def test_a_job_with_a_lock_and_a_slot_counts_once_when_its_queue_is_paused(run: Run) -> None:
    """Fewer jobs than the limit mean that none is left."""
    define(run, concurrency=5)
    both, slot_only = limited(run, queue_name="mail", lock="a"), limited(run, queue_name="mail")
    settle(run)
    run(core.pause_queue, "mail")
    assert sorted(run(core.free_locks_of_paused, queue="mail", limit=2)) == [both, slot_only]


def test_a_job_with_a_slot_gives_it_back_when_its_queue_is_paused(run: Run) -> None:
    define(run, concurrency=1)
    unstarted, open_one = limited(run, queue_name="mail"), limited(run)
    settle(run)
    assert places(run, unstarted, open_one) == [Readiness.PROMOTED, Readiness.IN_LINE]
    run(core.pause_queue, "mail")
    assert len(run(core.free_locks_of_paused, queue="mail")) == 1
    settle_while_paused(run, "mail")
    assert places(run, unstarted, open_one)[1] == Readiness.PROMOTED
    assert run(core.show_limit, "l", "k").held == 1


def test_a_lock_passes_to_no_job_of_a_paused_queue(run: Run) -> None:
    holder, waiting, open_one = (defer(run, lock="m", queue_name=queue) for queue in ("other", "mail", "other"))
    worker_id = worker(run)
    settle(run)
    (job,) = run(core.fetch_jobs, worker_id=worker_id, limit=5)
    assert job.id == holder
    run(core.pause_queue, "mail")
    finish(run, job)
    settle_while_paused(run, "mail")
    assert places(run, waiting, open_one) == [Readiness.PARKED, Readiness.PROMOTED]
