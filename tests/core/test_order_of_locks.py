"""Jobs of a lock run in their order, whatever else runs at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FetchedJob, JobRetry, Readiness, Status
from tests.conformance.runs import SyncRun
from tests.conformance.steps import HOUR, defer, fetch_ids, fetch_one, finish, query, readiness, settle, worker
from tests.core.test_concurrency import open_transaction, wait_for, wait_until_blocked


@pytest.fixture
def run(engine: sa.Engine) -> SyncRun:
    """Return a runner that executes each operation in autocommit on a pooled connection."""
    return SyncRun(engine)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Yield a thread for a call that blocks on another connection."""
    with ThreadPoolExecutor(1) as threads:
        yield threads


def start_order(run: SyncRun, worker_id: int) -> list[int]:
    """Run all jobs that can start, one at a time, and return their ids in the order of their starts."""
    order = []
    while ids := fetch_ids(run, worker_id, limit=1):
        order += ids
        run(core.finish_job_by_id, ids[0], status=Status.SUCCEEDED, delete=False)
    return order


def test_a_promotion_while_the_holder_hands_over_keeps_the_order(
    engine: sa.Engine, run: SyncRun, threads: ThreadPoolExecutor
) -> None:
    """The holder has ended and is about to look for the next job. A promotion parks some in that moment."""
    worker_id = worker(run)
    defer(run, lock="l")
    holder = fetch_one(run, worker_id)
    later = [defer(run, lock="l") for _ in range(3)]
    with open_transaction(engine) as user:
        query(user, "LOCK TABLE procrastinate_events IN SHARE MODE")
        finishing = threads.submit(finish, run, holder)
        wait_until_blocked(run, finishing)
        promotion = run(core.promote_jobs)
        user.rollback()
    assert wait_for(finishing) == {holder.id}
    assert (promotion.promoted, promotion.parked, promotion.again) == (0, 2, True)
    assert [readiness(run, job_id) for job_id in later] == [
        Readiness.PROMOTED,
        Readiness.PARKED,
        Readiness.UNDECIDED,
    ]
    assert start_order(run, worker_id) == later


@pytest.mark.parametrize("priority", [0, 1])
def test_a_promotion_gives_a_free_lock_to_the_parked_job_that_comes_first(run: SyncRun, priority: int) -> None:
    """The holder left unseen, so the jobs behind it are parked and the lock is free."""
    worker_id = worker(run)
    holder, parked = defer(run, lock="l"), defer(run, lock="l")
    settle(run)
    run(query, "ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")
    run(core.finish_job_by_id, holder, status=Status.SUCCEEDED, delete=False)
    run(query, "ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER")
    late = defer(run, lock="l", priority=priority)
    promotion = run(core.promote_jobs)
    assert (promotion.promoted, promotion.again) == (1, False)
    assert start_order(run, worker_id) == ([late, parked] if priority else [parked, late])


def test_a_promotion_passes_over_a_parked_job_that_a_user_has_locked(engine: sa.Engine, run: SyncRun) -> None:
    worker_id = worker(run)
    holder, parked = defer(run, lock="l"), defer(run, lock="l")
    settle(run)
    with open_transaction(engine) as user:
        query(user, "SELECT FROM procrastinate_jobs WHERE id = :id FOR UPDATE", id=parked)
        run(core.finish_job_by_id, holder, status=Status.SUCCEEDED, delete=False)
        late = defer(run, lock="l")
        assert run(core.promote_jobs).promoted == 1
        user.rollback()
    assert start_order(run, worker_id) == [late, parked]


def _rescue(run: SyncRun, job_id: int, worker_id: int) -> None:
    run(core.unregister_worker, worker_id)
    assert [job.id for job in run(core.rescue_jobs, max_rescues=3)] == [job_id]


def _take_stock(run: SyncRun, job_id: int, worker_id: int) -> None:
    lost = run(core.return_unknown_jobs, worker_id=worker_id, known_ids=[], max_rescues=3)
    assert [job.id for job in lost] == [job_id]


def _retry(run: SyncRun, job_id: int, worker_id: int) -> None:
    assert run(core.retry_jobs, [JobRetry(id=job_id, attempts=0)], worker_id=worker_id) == {job_id: Status.TODO}


def _retry_by_hand(run: SyncRun, job_id: int, worker_id: int) -> None:
    assert run(core.retry_job_by_id, job_id)


def _release(run: SyncRun, job_id: int, worker_id: int) -> None:
    assert run(core.release_jobs, [FetchedJob(id=job_id, attempts=0)], worker_id=worker_id)


def _plain_sql(run: SyncRun, job_id: int, worker_id: int) -> None:
    run(query, "UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL WHERE id = :id", id=job_id)


WAYS_BACK = [_rescue, _take_stock, _retry, _retry_by_hand, _release, _plain_sql]


@pytest.mark.parametrize("return_job", WAYS_BACK, ids=lambda way: way.__name__.strip("_"))
def test_a_job_that_waits_again_comes_before_the_next_one_of_its_lock(
    run: SyncRun, return_job: Callable[..., Any]
) -> None:
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


def test_a_job_that_waits_for_a_later_retry_hands_its_lock_on_at_once(run: SyncRun) -> None:
    own, other = worker(run), worker(run)
    first, second = defer(run, lock="l"), defer(run, lock="l")
    assert fetch_ids(run, own) == [first]
    settle(run)
    retry = JobRetry(id=first, attempts=0, retry_in=HOUR.total_seconds())
    assert run(core.retry_jobs, [retry], worker_id=own) == {first: Status.TODO}
    assert [job.id for job in run(core.fetch_jobs, worker_id=other, limit=5)] == [second]


def test_an_outcome_and_a_retry_of_one_statement_hand_their_locks_on_each_in_its_way(run: SyncRun) -> None:
    own, other = worker(run), worker(run)
    jobs = [defer(run, lock=lock) for lock in ("a", "b", "a", "b")]
    assert fetch_ids(run, own) == jobs[:2]
    settle(run)
    statement = """
        UPDATE procrastinate_jobs
        SET status = CASE WHEN lock = 'a' THEN 'succeeded'::procrastinate_job_status ELSE 'todo' END, worker_id = NULL
        WHERE id = ANY (:ids)
    """
    run(query, statement, ids=jobs[:2])
    assert [job.id for job in run(core.fetch_jobs, worker_id=other, limit=5)] == [jobs[2]]
    assert fetch_ids(run, other) == [jobs[1]]


def test_a_release_with_the_lock_leaves_the_parked_jobs_where_they_are(run: SyncRun) -> None:
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


@pytest.mark.parametrize("leave", ["cancel", "delete", "reschedule"])
def test_a_job_that_leaves_without_the_lock_lets_no_job_pass_another(run: SyncRun, leave: str) -> None:
    """The holder ends before the next promotion and gives its lock to the first parked job."""
    worker_id = worker(run)
    holder, second, third = (defer(run, lock="l") for _ in range(3))
    assert fetch_ids(run, worker_id) == [holder]
    settle(run)
    undecided = defer(run, lock="l")
    if leave == "reschedule":
        run(query, "UPDATE procrastinate_jobs SET scheduled_at = '2100-01-01Z' WHERE id = :id", id=undecided)
    else:
        assert run(core.cancel_job, undecided, delete=leave == "delete")
    run(core.finish_job_by_id, holder, status=Status.SUCCEEDED, delete=False)
    assert [job.id for job in run(core.fetch_jobs, worker_id=worker_id, limit=5)] == [second]
    run(core.finish_job_by_id, second, status=Status.SUCCEEDED, delete=False)
    assert start_order(run, worker_id) == [third]
