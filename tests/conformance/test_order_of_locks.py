"""Jobs of a lock start in their order, also if one of them waits again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from procrastinate import core
from procrastinate.core import FetchedJob, JobRetry, Readiness, Status
from tests.conformance.runs import Run
from tests.conformance.steps import HOUR, defer, fetch_ids, readiness, settle, worker


def start_order(run: Run, worker_id: int) -> list[int]:
    """Run all jobs that can start, one at a time, and return their ids in the order of their starts."""
    order = []
    while ids := fetch_ids(run, worker_id, limit=1):
        order += ids
        run(core.finish_job_by_id, ids[0], status=Status.SUCCEEDED, delete=False)
    return order


def _rescue(run: Run, job_id: int, worker_id: int) -> None:
    run(core.unregister_worker, worker_id)
    assert [job.id for job in run(core.rescue_jobs, max_rescues=3)] == [job_id]


def _take_stock(run: Run, job_id: int, worker_id: int) -> None:
    lost = run(core.return_unknown_jobs, worker_id=worker_id, known_ids=[], max_rescues=3)
    assert [job.id for job in lost] == [job_id]


def _retry(run: Run, job_id: int, worker_id: int) -> None:
    assert run(core.retry_jobs, [JobRetry(id=job_id, attempts=0)], worker_id=worker_id) == {job_id: Status.TODO}


def _retry_later(run: Run, job_id: int, worker_id: int) -> None:
    retry = JobRetry(id=job_id, attempts=0, retry_in=HOUR.total_seconds())
    assert run(core.retry_jobs, [retry], worker_id=worker_id) == {job_id: Status.TODO}


def _retry_by_hand(run: Run, job_id: int, worker_id: int) -> None:
    assert run(core.retry_job_by_id, job_id)


def _release(run: Run, job_id: int, worker_id: int) -> None:
    assert run(core.release_jobs, [FetchedJob(id=job_id, attempts=0)], worker_id=worker_id)


WAYS_BACK = [_rescue, _take_stock, _release]


@pytest.mark.parametrize("return_job", WAYS_BACK, ids=lambda way: way.__name__.strip("_"))
def test_a_job_that_waits_again_comes_before_the_next_one_of_its_lock(run: Run, return_job: Callable[..., Any]) -> None:
    """A fetch right after its return starts no later job, and neither does a promotion."""
    own, other = worker(run), worker(run)
    first, second = defer(run, lock="l"), defer(run, lock="l")
    assert fetch_ids(run, own) == [first]
    settle(run)
    return_job(run, first, own)
    started = [job.id for job in run(core.fetch_jobs, worker_id=other, limit=5)]
    assert started in ([], [first])
    for job_id in started:
        run(core.finish_job_by_id, job_id, status=Status.SUCCEEDED, delete=False)
    assert started + start_order(run, other) == [first, second]


@pytest.mark.parametrize("retry_job", [_retry, _retry_later, _retry_by_hand], ids=lambda way: way.__name__.strip("_"))
def test_a_job_that_is_retried_hands_its_lock_on_at_once(run: Run, retry_job: Callable[..., Any]) -> None:
    """A job that always fails would keep the jobs behind it waiting."""
    own, other = worker(run), worker(run)
    first, second = defer(run, lock="l"), defer(run, lock="l")
    assert fetch_ids(run, own) == [first]
    settle(run)
    retry_job(run, first, own)
    assert [job.id for job in run(core.fetch_jobs, worker_id=other, limit=5)] == [second]


def test_a_release_with_the_lock_leaves_the_parked_jobs_where_they_are(run: Run) -> None:
    """The released job can start at once and end before any promotion."""
    own, other = worker(run), worker(run)
    first, second, third = (defer(run, lock="l") for _ in range(3))
    assert fetch_ids(run, own) == [first]
    settle(run)
    _release(run, first, own)
    assert [readiness(run, job_id) for job_id in (first, second, third)] == [
        Readiness.PROMOTED,
        Readiness.PARKED,
        Readiness.PARKED,
    ]
    assert [job.id for job in run(core.fetch_jobs, worker_id=other, limit=5)] == [first]
    run(core.finish_job_by_id, first, status=Status.SUCCEEDED, delete=False)
    assert [job.id for job in run(core.fetch_jobs, worker_id=other, limit=5)] == [second]


def test_a_rescued_job_with_a_limit_frees_its_lock_for_the_next_one(run: Run) -> None:
    """It gets in line for a slot, and its lock is looked at when it has one."""
    own, other = worker(run), worker(run)
    run(core.define_limits, [core.LimitDefinition(name="a", concurrency=1)])
    limited = defer(run, lock="l", limit_name="a", limit_key="k")
    settle(run)
    assert fetch_ids(run, own) == [limited]
    following = defer(run, lock="l")
    settle(run)
    _rescue(run, limited, own)
    assert [job.id for job in run(core.fetch_jobs, worker_id=other, limit=5)] == [following]
