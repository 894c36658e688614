"""Deferring under a queueing lock that is taken: skip the new job, or replace the one that waits."""

from __future__ import annotations

import contextlib

import pytest

from procrastinate import core
from procrastinate.core import Status, TickOutcome
from tests.conformance.runs import Run
from tests.conformance.steps import (
    FUTURE,
    PAST,
    Rollback,
    defer,
    fetch_ids,
    fetch_one,
    list_history,
    list_tick_jobs,
    settle,
    stored,
    worker,
)
from tests.database import new_job


def all_ids(run: Run) -> list[int]:
    return sorted(job.id for job in run(core.list_jobs, core.JobFilter()))


def replace(run: Run, **job: object) -> int:
    """Defer one job, or replace the one that waits, and return its id."""
    (job_id,) = run(core.defer_jobs_or_replace, [new_job(queueing_lock="q", **job)])
    return job_id


# Skip


def test_skip_returns_the_id_of_the_job_that_waits(run: Run) -> None:
    waiting = defer(run, queueing_lock="q", args='{"a": 1}')
    assert run(core.defer_job_or_skip, new_job(queueing_lock="q", args='{"a": 2}', priority=5)) == waiting
    assert (stored(run, waiting).args, stored(run, waiting).priority) == ('{"a": 1}', 0)
    assert all_ids(run) == [waiting]


def test_an_empty_queueing_lock_is_a_lock(run: Run) -> None:
    waiting = run(core.defer_job_or_skip, new_job(queueing_lock=""))
    assert run(core.defer_job_or_skip, new_job(queueing_lock="")) == waiting
    assert all_ids(run) == [waiting]


def test_skip_inserts_where_no_job_waits(run: Run) -> None:
    running = defer(run, queueing_lock="q")
    fetch_one(run, worker(run))
    new = run(core.defer_job_or_skip, new_job(queueing_lock="q"))
    assert new is not None
    assert all_ids(run) == [running, new]


def test_a_batch_that_skips_has_an_id_for_each_job_in_order(run: Run) -> None:
    waiting = defer(run, queueing_lock="q", task_name="waiting")
    batch = [
        new_job(task_name="first"),
        new_job(queueing_lock="z", task_name="z"),
        new_job(queueing_lock="q"),
        new_job(queueing_lock="a", task_name="a"),
        new_job(queueing_lock="z"),
        new_job(task_name="last"),
    ]
    ids = run(core.defer_jobs_or_skip, batch)
    assert ids is not None
    assert [stored(run, job_id).task_name for job_id in ids] == ["first", "z", "waiting", "a", "z", "last"]
    assert ids[2] == waiting
    new = [ids[0], ids[1], ids[3], ids[5]]
    assert new == sorted(new)
    assert all_ids(run) == [waiting, *new]


@pytest.mark.needs_database(reason="it rolls back")
def test_what_was_not_skipped_vanishes_with_the_transaction(run: Run) -> None:
    waiting = defer(run, queueing_lock="q")
    with contextlib.suppress(Rollback), run.transaction():
        run(core.defer_jobs_or_skip, [new_job(), new_job(queueing_lock="q")])
        run(core.defer_job_or_skip, new_job(queueing_lock="r"))
        raise Rollback
    assert all_ids(run) == [waiting]


def test_no_jobs_need_no_answer(run: Run) -> None:
    assert run(core.defer_jobs_or_skip, []) == []
    assert run(core.defer_jobs_or_replace, []) == []


# Replace


def test_replace_gives_the_waiting_job_everything_of_the_new_one(run: Run) -> None:
    waiting = defer(run, queueing_lock="q", lock="l", scheduled_at=FUTURE, args='{"a": 1}')
    new = {"queue_name": "other", "task_name": "other", "priority": 3, "lock": "m", "args": '{"b": "%"}'}
    assert replace(run, **new, scheduled_at=PAST) == waiting
    job = stored(run, waiting)
    assert {name: getattr(job, name) for name in new} == new
    assert (job.scheduled_at, job.queueing_lock, job.status, job.attempts) == (PAST, "q", Status.TODO, 0)
    assert all_ids(run) == [waiting]


def test_replace_inserts_where_no_job_waits(run: Run) -> None:
    assert replace(run, args='{"a": 1}') == 1
    assert stored(run, 1).args == '{"a": 1}'


def test_replace_leaves_a_job_that_has_started_alone(run: Run) -> None:
    running = defer(run, queueing_lock="q", args='{"a": 1}')
    fetch_one(run, worker(run))
    new = replace(run, args='{"a": 2}')
    assert new != running
    assert [(stored(run, job_id).args, stored(run, job_id).status) for job_id in (running, new)] == [
        ('{"a": 1}', Status.DOING),
        ('{"a": 2}', Status.TODO),
    ]


def test_a_promoted_job_that_is_put_off_waits_for_its_new_time(run: Run) -> None:
    job_id = defer(run, queueing_lock="q", scheduled_at=PAST)
    settle(run)
    replace(run, scheduled_at=FUTURE)
    assert fetch_ids(run, worker(run)) == []
    replace(run)
    assert fetch_ids(run, worker(run)) == [job_id]


def test_a_holder_that_is_put_off_leaves_its_lock_to_the_next(run: Run) -> None:
    holder = defer(run, queueing_lock="q", lock="l")
    parked = defer(run, lock="l")
    settle(run)
    replace(run, lock="l", scheduled_at=FUTURE)
    assert fetch_ids(run, worker(run)) == [parked]
    assert stored(run, holder).status == Status.TODO


def test_a_holder_that_gets_another_lock_leaves_its_own_to_the_next(run: Run) -> None:
    holder = defer(run, queueing_lock="q", lock="l")
    parked = defer(run, lock="l")
    settle(run)
    replace(run, lock="m")
    assert fetch_ids(run, worker(run)) == [holder, parked]


def test_a_parked_job_that_gets_another_lock_need_not_wait_for_the_old_one(run: Run) -> None:
    holder = defer(run, lock="l")
    parked = defer(run, queueing_lock="q", lock="l")
    settle(run)
    replace(run)
    assert fetch_ids(run, worker(run)) == [holder, parked]


def test_a_parked_job_that_gets_a_higher_priority_outranks_the_holder(run: Run) -> None:
    defer(run, lock="l")
    parked = defer(run, queueing_lock="q", lock="l")
    settle(run)
    replace(run, lock="l", priority=1)
    assert fetch_ids(run, worker(run)) == [parked]


def test_a_holder_that_is_replaced_by_its_like_still_gets_its_turn(run: Run) -> None:
    holder = defer(run, queueing_lock="q", lock="l")
    parked = defer(run, lock="l")
    settle(run)
    replace(run, lock="l", args='{"a": 2}')
    (first,) = fetch_ids(run, worker(run))
    assert first in (holder, parked)


def test_a_replaced_job_has_its_new_time_in_its_history(run: Run) -> None:
    job_id = replace(run)
    replace(run, args='{"a": 1}')
    assert run(list_history, job_id) == ["deferred"]
    replace(run, scheduled_at=FUTURE)
    assert run(list_history, job_id) == ["deferred", "scheduled"]


def test_a_batch_that_replaces_has_an_id_for_each_job_in_order(run: Run) -> None:
    waiting = defer(run, queueing_lock="q", task_name="waiting")
    batch = [
        new_job(task_name="first"),
        new_job(queueing_lock="z", task_name="z"),
        new_job(queueing_lock="q", task_name="q"),
        new_job(queueing_lock="a", task_name="a"),
        new_job(queueing_lock="z", task_name="z again"),
        new_job(task_name="last"),
    ]
    ids = run(core.defer_jobs_or_replace, batch)
    assert [stored(run, job_id).task_name for job_id in ids] == ["first", "z again", "q", "a", "z again", "last"]
    assert (ids[2], ids[4]) == (waiting, ids[1])
    new = [ids[0], ids[1], ids[3], ids[5]]
    assert new == sorted(new)
    assert all_ids(run) == [waiting, *new]


@pytest.mark.needs_database(reason="it rolls back")
def test_a_replacement_is_taken_back_with_the_transaction(run: Run) -> None:
    waiting = defer(run, queueing_lock="q", args='{"a": 1}')
    with contextlib.suppress(Rollback), run.transaction():
        assert replace(run, args='{"a": 2}') == waiting
        raise Rollback
    assert stored(run, waiting).args == '{"a": 1}'


def test_a_tick_may_replace_the_job_that_waits(run: Run) -> None:
    waiting = defer(run, queueing_lock="q")
    job = new_job(queueing_lock="q", args='{"timestamp": 100}')
    outcome = run(core.defer_tick, job, periodic_id="id", defer_timestamp=100, replace=True)
    assert outcome == TickOutcome(job_id=waiting)
    assert stored(run, waiting).args == '{"timestamp": 100}'
    assert run(list_tick_jobs) == [waiting]
    again = run(core.defer_tick, job, periodic_id="id", defer_timestamp=100, replace=True)
    assert again == TickOutcome(job_id=None)
