"""Rates, turns and hold-offs of limits: which jobs start now, and when the others may."""

from __future__ import annotations

from typing import Any

import pytest

from procrastinate import core
from procrastinate.core import FetchedJob, JobRetry, LimitDefinition, RateTerms, Readiness, WorkerIdentity, WorkerTerms
from tests.conformance.runs import Run
from tests.conformance.steps import PAST, defer, fetch_ids, finish, pass_time, readiness, settle, stored, worker
from tests.conformance.test_limits import define, limited, places

HOUR = 3600.0


def start(run: Run, worker_id: int) -> list[int]:
    """Give slots, and claim all jobs that have one."""
    return fetch_ids(run, worker_id, limit=100)


def register(run: Run, *queues: str, concurrency: int) -> int:
    identity = WorkerIdentity(
        name="w", hostname="h", pid=1, version="1", queues=queues, concurrency=concurrency, listens=True
    )
    return run(core.register_worker, WorkerTerms(heartbeat_interval=10.0, stalled_timeout=30.0), identity)


def next_start_in(run: Run) -> float | None:
    """Settle, and return the seconds until a window or a hold-off lets the next job start."""
    settle(run)
    promotion = run(core.promote_jobs)
    return promotion.next_due_in or run(core.admit_jobs).next_start_in


def test_no_more_jobs_start_in_a_window_than_the_rate_says(run: Run) -> None:
    define(run, rates=(RateTerms(2, HOUR),))
    ids = [limited(run) for _ in range(5)]
    other = limited(run, "another key")
    worker_id = worker(run)
    assert start(run, worker_id) == [*ids[:2], other]
    pass_time(run, HOUR / 2)
    assert start(run, worker_id) == []
    pass_time(run, HOUR / 2)
    assert start(run, worker_id) == ids[2:4]


@pytest.mark.parametrize("leave", ["finish", "delete", "retry", "release", "rescue"])
def test_a_start_counts_whatever_becomes_of_its_job(run: Run, leave: str) -> None:
    define(run, rates=(RateTerms(1, HOUR),))
    first, second = limited(run), limited(run)
    worker_id = worker(run)
    assert start(run, worker_id) == [first]
    if leave in ("finish", "delete"):
        finish(run, stored(run, first), delete=leave == "delete")
    elif leave == "retry":
        run(core.retry_jobs, [JobRetry(id=first, attempts=0, retry_at=PAST)], worker_id=worker_id)
    elif leave == "release":
        run(core.release_jobs, [FetchedJob(id=first, attempts=0)], worker_id=worker_id)
        assert readiness(run, first) == Readiness.IN_LINE
    else:
        run(core.unregister_worker, worker_id)
        run(core.rescue_jobs, max_rescues=5)
        worker_id = worker(run)
    assert start(run, worker_id) == []
    pass_time(run, HOUR)
    assert start(run, worker_id) == [second if leave in ("finish", "delete") else first]


def test_a_job_with_a_slot_that_is_not_claimed_counts_as_a_start_now(run: Run) -> None:
    define(run, rates=(RateTerms(2, HOUR),))
    ids = [limited(run) for _ in range(3)]
    settle(run)
    pass_time(run, 2 * HOUR)
    settle(run)
    assert places(run, *ids) == [Readiness.PROMOTED, Readiness.PROMOTED, Readiness.IN_LINE]


def test_all_rates_of_a_limit_hold_and_the_concurrency_too(run: Run) -> None:
    define(run, rates=(RateTerms(5, HOUR), RateTerms(3, 60.0)), concurrency=4)
    ids = [limited(run) for _ in range(9)]
    worker_id = worker(run)
    assert start(run, worker_id) == ids[:3]
    pass_time(run, 60.0)
    assert start(run, worker_id) == ids[3:4]
    for job_id in ids[:4]:
        finish(run, stored(run, job_id))
    assert start(run, worker_id) == ids[4:5]


def test_a_rate_over_all_keys_counts_the_starts_of_each_key(run: Run) -> None:
    define(run, total_rates=(RateTerms(3, HOUR),))
    first = [limited(run, "a") for _ in range(3)]
    second = [limited(run, "b") for _ in range(3)]
    worker_id = worker(run)
    assert start(run, worker_id) == [*first[:2], *second[:1]]
    assert start(run, worker_id) == []
    pass_time(run, HOUR)
    assert len(start(run, worker_id)) == 3


def test_a_heavy_job_counts_as_several_starts(run: Run) -> None:
    define(run, rates=(RateTerms(3, HOUR),))
    heavy, light, last = limited(run, limit_weight=2), limited(run), limited(run)
    worker_id = worker(run)
    assert start(run, worker_id) == [heavy, light]
    pass_time(run, HOUR)
    assert start(run, worker_id) == [last]


def test_no_job_starts_before_a_heavy_one_that_waits_for_its_window(run: Run) -> None:
    define(run, rates=(RateTerms(3, HOUR),))
    light = [limited(run) for _ in range(2)]
    worker_id = worker(run)
    assert start(run, worker_id) == light
    heavy, behind = limited(run, limit_weight=3), limited(run)
    assert start(run, worker_id) == []
    pass_time(run, HOUR)
    assert start(run, worker_id) == [heavy]
    assert places(run, behind) == [Readiness.IN_LINE]


def test_an_admission_says_when_the_next_job_may_start(run: Run) -> None:
    define(run, rates=(RateTerms(1, HOUR),))
    worker_id = worker(run)
    limited(run)
    limited(run)
    assert len(start(run, worker_id)) == 1
    pass_time(run, 600.0)
    assert next_start_in(run) == pytest.approx(HOUR - 600, abs=60)
    shown = run(core.show_limit, "l", "k").next_start
    assert shown is not None
    assert run(core.show_limit, "l", "another key").next_start is None


def test_a_rate_that_is_set_holds_at_once_until_it_is_reset(run: Run) -> None:
    define(run, rates=(RateTerms(1, HOUR),))
    ids = [limited(run) for _ in range(6)]
    worker_id = worker(run)
    assert start(run, worker_id) == ids[:1]
    run(core.set_limit, LimitDefinition(name="l", rates=(RateTerms(3, HOUR),)))
    assert start(run, worker_id) == ids[1:3]
    run(core.reset_limit, "l")
    assert start(run, worker_id) == []
    assert [(one.rates, one.is_set) for one in run(core.list_limits)] == [((RateTerms(1, HOUR),), False)]


# Turns


def run_one(run: Run, worker_id: int) -> str:
    """Start what may start, end it, and return the tasks."""
    settle(run)
    fetched = run(core.fetch_jobs, worker_id=worker_id, limit=100)
    if fetched:
        finish(run, *fetched)
    return "".join(job.task_name for job in fetched)


def of_keys(run: Run, keys: str, **job: Any) -> list[int]:
    return [limited(run, key, task_name=key, **job) for key in keys]


def test_the_keys_of_a_fair_limit_take_turns(run: Run) -> None:
    define(run, fair=True)
    of_keys(run, "aaaaabbc")
    worker_id = worker(run)
    assert [run_one(run, worker_id) for _ in range(8)] == ["a", "b", "c", "a", "b", "a", "a", "a"]


def test_a_key_that_comes_late_waits_for_no_line_of_another_key(run: Run) -> None:
    define(run, fair=True)
    of_keys(run, "a" * 30)
    worker_id = register(run, concurrency=4)
    assert run_one(run, worker_id) == "aaaa"
    of_keys(run, "bb")
    assert sorted(run_one(run, worker_id)) == list("aabb")


def test_a_fair_limit_gives_out_no_more_slots_than_the_workers_of_its_queues_have(run: Run) -> None:
    register(run, "reports", concurrency=3)
    register(run, "mail", "reports", concurrency=2)
    register(run, "mail", concurrency=50)
    define(run, fair=True)
    of_keys(run, "a" * 30, queue_name="reports")
    settle(run)
    assert run(core.show_limit, "l", "a").held == 5
    assert run(core.list_limits)[0].fair


def test_the_numbers_of_a_fair_limit_hold(run: Run) -> None:
    define(run, fair=True, concurrency=2, total=5)
    of_keys(run, "a" * 9 + "bcd")
    assert sorted(run_one(run, register(run, concurrency=50))) == list("aabcd")


# Hold-offs


@pytest.mark.parametrize(
    "numbers",
    [
        {"concurrency": 9},
        {"total": 9},
        {"rates": (RateTerms(9, HOUR),)},
        {"total_rates": (RateTerms(9, HOUR),)},
        {"fair": True},
    ],
    ids=lambda numbers: next(iter(numbers)),
)
def test_a_key_that_is_held_off_starts_no_job_and_other_keys_do(run: Run, numbers: dict[str, Any]) -> None:
    define(run, **numbers)
    run(core.hold_off, "l", "k", HOUR)
    ids = [limited(run), limited(run)]
    other = limited(run, "another key")
    worker_id = register(run, concurrency=9)
    assert start(run, worker_id) == [other]
    assert next_start_in(run) == pytest.approx(HOUR, abs=60)
    pass_time(run, HOUR)
    assert start(run, worker_id) == ids


def test_a_job_that_ends_hands_its_slot_to_no_job_of_a_key_that_is_held_off(run: Run) -> None:
    define(run, concurrency=1)
    first, second = limited(run), limited(run)
    worker_id = worker(run)
    assert start(run, worker_id) == [first]
    assert run(core.hold_off_key_of, first, HOUR)
    finish(run, stored(run, first))
    assert start(run, worker_id) == []
    pass_time(run, HOUR)
    assert start(run, worker_id) == [second]


def test_a_job_without_a_limit_holds_off_nothing(run: Run) -> None:
    assert not run(core.hold_off_key_of, defer(run), HOUR)


def test_a_job_with_a_slot_that_no_worker_has_claimed_gets_back_in_line(run: Run) -> None:
    define(run, concurrency=9)
    claimed, *ids = [limited(run) for _ in range(3)]
    settle(run)
    worker_id = worker(run)
    assert fetch_ids(run, worker_id, limit=1) == [claimed]
    run(core.hold_off, "l", "k", HOUR)
    assert places(run, *ids) == [Readiness.IN_LINE] * 2
    assert start(run, worker_id) == []
    pass_time(run, HOUR)
    assert start(run, worker_id) == ids


def test_a_job_that_a_worker_gives_back_during_a_hold_off_does_not_start_again(run: Run) -> None:
    define(run, concurrency=1)
    job_id = limited(run)
    worker_id = worker(run)
    assert start(run, worker_id) == [job_id]
    run(core.hold_off, "l", "k", HOUR)
    run(core.release_jobs, [FetchedJob(id=job_id, attempts=0)], worker_id=worker_id)
    assert start(run, worker_id) == []


def test_of_two_hold_offs_the_later_end_counts(run: Run) -> None:
    define(run, concurrency=1)
    run(core.hold_off, "l", "k", HOUR)
    before = run(core.show_limit, "l", "k").next_start
    run(core.hold_off, "l", "k", 1.0)
    assert run(core.show_limit, "l", "k").next_start == before
    run(core.hold_off, "l", "k", 2 * HOUR)
    after = run(core.show_limit, "l", "k").next_start
    assert before is not None
    assert after is not None
    assert after > before


def test_the_next_start_is_the_later_one_of_rate_and_hold_off(run: Run) -> None:
    define(run, rates=(RateTerms(1, HOUR),))
    limited(run)
    start(run, worker(run))
    by_rate = run(core.show_limit, "l", "k").next_start
    run(core.hold_off, "l", "k", 1.0)
    assert run(core.show_limit, "l", "k").next_start == by_rate
    run(core.hold_off, "l", "k", 2 * HOUR)
    held_off = run(core.show_limit, "l", "k").next_start
    assert by_rate is not None
    assert held_off is not None
    assert held_off > by_rate
