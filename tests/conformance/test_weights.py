"""Weights: a job that takes several slots of its limit."""

from __future__ import annotations

from typing import Any

import pytest

from procrastinate import core
from procrastinate.core import Readiness
from tests.conformance.runs import Run
from tests.conformance.steps import change, fetch_ids, finish, settle, worker
from tests.conformance.test_limits import define, limited, places
from tests.database import new_job


def heavy(run: Run, weight: int, key: str = "k", **job: Any) -> int:
    return limited(run, key, limit_weight=weight, **job)


def test_a_job_takes_as_many_slots_as_its_weight(run: Run) -> None:
    define(run, concurrency=5)
    first, second, third = heavy(run, 3), limited(run), heavy(run, 2)
    assert fetch_ids(run, worker(run)) == [first, second]
    assert places(run, third) == [Readiness.IN_LINE]
    shown = run(core.show_limit, "l", "k")
    assert (shown.held, shown.running, shown.in_line, shown.next_weight) == (4, 4, 1, 2)
    assert [(one.held, one.in_line) for one in run(core.list_limits)] == [(4, 1)]


@pytest.mark.parametrize("delete", [False, True])
def test_a_heavy_job_hands_its_slots_to_several_light_ones(run: Run, delete: bool) -> None:
    define(run, concurrency=3)
    heavy(run, 3)
    light = [limited(run) for _ in range(4)]
    settle(run)
    (job,) = run(core.fetch_jobs, worker_id=worker(run), limit=5)
    finish(run, job, delete=delete)
    assert places(run, *light) == [Readiness.PROMOTED] * 3 + [Readiness.IN_LINE]


def test_no_job_passes_a_heavy_one_that_waits_for_more_slots(run: Run) -> None:
    define(run, concurrency=3)
    light = [limited(run) for _ in range(3)]
    worker_id = worker(run)
    assert fetch_ids(run, worker_id) == light
    waiting, behind = heavy(run, 3), limited(run)
    for job_id in light:
        assert places(run, waiting, behind) == [Readiness.IN_LINE] * 2
        change(run, job_id, status=core.Status.SUCCEEDED)
        settle(run)
    assert places(run, waiting, behind) == [Readiness.PROMOTED, Readiness.IN_LINE]


def test_a_lighter_job_of_another_key_does_not_take_what_the_next_one_needs(run: Run) -> None:
    define(run, total=3)
    light = [limited(run, "light") for _ in range(3)]
    worker_id = worker(run)
    assert fetch_ids(run, worker_id) == light
    waiting = heavy(run, 3, "heavy")
    late = [limited(run, "light") for _ in range(3)]
    for job_id in light:
        change(run, job_id, status=core.Status.SUCCEEDED)
        settle(run)
    assert places(run, waiting, *late) == [Readiness.PROMOTED] + [Readiness.IN_LINE] * 3


def test_a_job_that_is_too_heavy_holds_up_no_other(run: Run) -> None:
    define(run, concurrency=2)
    too_heavy, light = heavy(run, 3), [limited(run) for _ in range(3)]
    worker_id = worker(run)
    assert fetch_ids(run, worker_id) == light[:2]
    change(run, light[0], status=core.Status.SUCCEEDED)
    assert places(run, too_heavy, light[2]) == [Readiness.IN_LINE, Readiness.PROMOTED]
    run(core.set_limit, core.LimitDefinition(name="l", concurrency=5))
    settle(run)
    assert places(run, too_heavy) == [Readiness.PROMOTED]


def test_a_lower_limit_waits_for_the_slots_of_heavy_jobs(run: Run) -> None:
    define(run, concurrency=6)
    first, second = heavy(run, 3), heavy(run, 3)
    worker_id = worker(run)
    assert fetch_ids(run, worker_id) == [first, second]
    run(core.set_limit, core.LimitDefinition(name="l", concurrency=4))
    third, fourth = heavy(run, 2), heavy(run, 2)
    change(run, first, status=core.Status.SUCCEEDED)
    settle(run)
    assert places(run, third, fourth) == [Readiness.IN_LINE] * 2
    change(run, second, status=core.Status.SUCCEEDED)
    settle(run)
    assert places(run, third, fourth) == [Readiness.PROMOTED] * 2


def test_a_replaced_job_has_the_weight_of_the_new_one(run: Run) -> None:
    define(run, concurrency=4)
    heavy(run, 4)
    waiting = heavy(run, 4, queueing_lock="q")
    settle(run)
    light = new_job(queueing_lock="q", limit_name="l", limit_key="k")
    assert run(core.defer_jobs_or_replace, [light]) == [waiting]
    assert run(core.show_limit, "l", "k").next_weight == 1
