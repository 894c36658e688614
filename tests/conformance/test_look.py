"""Whether there is anything to do for a worker, on every kind of connection."""

from __future__ import annotations

import dataclasses

import pytest

from procrastinate import core
from tests.conformance.kinds import Run
from tests.conformance.steps import FUTURE, PAST, defer, fetch_one, finish, settle, worker

QUEUES = (None, ["default"], ["other", "default"])


def has_work(run: Run) -> list[bool]:
    """For a worker of all queues, of the one queue in which jobs are, and of several."""
    return [run(core.has_work, queues=queues) for queues in QUEUES]


def test_an_empty_queue_has_no_work(run: Run) -> None:
    assert has_work(run) == [False] * 3


def test_a_ready_job_is_work_for_the_workers_of_its_queue(run: Run) -> None:
    defer(run)
    assert has_work(run) == [True] * 3
    assert run(core.has_work, queues=["other"]) is False


@pytest.mark.parametrize("job", [{"lock": "l"}, {"scheduled_at": PAST}])
def test_a_job_that_has_to_be_promoted_is_work_for_every_worker(run: Run, job: dict[str, object]) -> None:
    defer(run, **job)
    assert run(core.has_work, queues=["other"]) is True


def test_a_job_that_is_due_later_is_no_work(run: Run) -> None:
    defer(run, scheduled_at=FUTURE)
    assert has_work(run) == [False] * 3


def test_a_running_job_and_those_behind_it_may_be_work_for_every_worker(run: Run) -> None:
    """Its worker may be gone."""
    defer(run, lock="l")
    settle(run)
    job = fetch_one(run, worker(run))
    assert run(core.has_work, queues=["other"]) is True
    finish(run, job)
    assert has_work(run) == [False] * 3


def test_plain_jobs_leave_nothing_to_sweep(run: Run) -> None:
    defer(run, lock="l")
    assert not any(dataclasses.astuple(run(core.find_unswept)))


def test_a_line_needs_a_sweep_until_its_job_has_a_slot(run: Run) -> None:
    run(core.define_limits, [core.LimitDefinition(name="one", concurrency=1)])
    defer(run, limit_name="one", limit_key="k")
    assert run(core.find_unswept).lines is True
    run(core.admit_jobs)
    assert run(core.find_unswept).lines is False


def test_a_job_that_a_pause_parked_needs_a_sweep_once_its_queue_is_open(run: Run) -> None:
    run(core.pause_queue, "default")
    defer(run, scheduled_at=PAST)
    run(core.promote_jobs, paused=["default"])
    assert run(core.find_unswept).resumed is False
    run(core.resume_queue, "default")
    assert run(core.find_unswept).resumed is True
    run(core.unpark_resumed_jobs)
    assert run(core.find_unswept).resumed is False


def test_a_job_behind_a_lock_needs_a_sweep(run: Run) -> None:
    """Its holder may be gone."""
    for _ in range(2):
        defer(run, lock="l")
    settle(run)
    assert run(core.find_unswept).parked is True
    finish(run, fetch_one(run, worker(run)))
    assert run(core.find_unswept).parked is False


def test_the_job_of_a_worker_that_is_gone_needs_a_sweep(run: Run) -> None:
    defer(run)
    worker_id = worker(run)
    fetch_one(run, worker_id)
    assert run(core.find_unswept).orphaned is False
    run(core.unregister_worker, worker_id)
    assert run(core.find_unswept).orphaned is True
    run(core.rescue_jobs, max_rescues=3)
    assert run(core.find_unswept).orphaned is False
