"""Jobs of a lock run in their order, whatever else runs at the same moment."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import Readiness, Status
from tests.conformance.runs import SyncRun
from tests.conformance.steps import defer, fetch_ids, fetch_one, finish, query, readiness, settle, worker
from tests.conformance.test_order_of_locks import start_order
from tests.core.test_concurrency import open_transaction, wait_for, wait_until_blocked


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Yield a thread for a call that blocks on another connection."""
    with ThreadPoolExecutor(1) as threads:
        yield threads


def leave_unseen(run: SyncRun, holder: int) -> None:
    """End the holder of a lock without the triggers that hand it over."""
    run(query, "ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")
    run(core.finish_job_by_id, holder, status=Status.SUCCEEDED, delete=False)
    run(query, "ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER")


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
    leave_unseen(run, holder)
    late = defer(run, lock="l", priority=priority)
    promotion = run(core.promote_jobs)
    assert (promotion.promoted, promotion.undecided, promotion.again) == (1, 0, False)
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


def test_a_job_that_plain_sql_sends_back_comes_before_the_next_one_of_its_lock(run: SyncRun) -> None:
    own, other = worker(run), worker(run)
    first, second = defer(run, lock="l"), defer(run, lock="l")
    assert fetch_ids(run, own) == [first]
    settle(run)
    run(query, "UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL WHERE id = :id", id=first)
    assert run(core.fetch_jobs, worker_id=other, limit=5) == []
    assert start_order(run, other) == [first, second]


def test_a_parked_job_with_a_limit_gets_no_free_lock_without_a_slot(run: SyncRun) -> None:
    worker(run)
    run(core.define_limits, [core.LimitDefinition(name="a", concurrency=1)])
    holder = defer(run, lock="l")
    settle(run)
    limited = defer(run, lock="l", limit_name="a", limit_key="k")
    settle(run)
    assert readiness(run, limited) == Readiness.PARKED
    leave_unseen(run, holder)
    late = defer(run, lock="l")
    run(core.promote_jobs)
    assert [readiness(run, job_id) for job_id in (limited, late)] == [Readiness.PARKED, Readiness.PROMOTED]


def test_an_outcome_and_a_return_of_one_statement_hand_their_locks_on_each_in_its_way(run: SyncRun) -> None:
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


def test_a_job_that_comes_before_a_promoted_one_is_looked_at_again_if_that_row_is_locked(
    engine: sa.Engine, run: SyncRun
) -> None:
    """Parked, it could not overtake the promoted job any more."""
    worker_id = worker(run)
    promoted = defer(run, lock="l")
    settle(run)
    with open_transaction(engine) as user:
        query(user, "SELECT FROM procrastinate_jobs WHERE id = :id FOR UPDATE", id=promoted)
        high, low = defer(run, lock="l", priority=5), defer(run, lock="l")
        run(core.promote_jobs)
        user.rollback()
    settle(run)
    assert start_order(run, worker_id) == [high, promoted, low]


def test_an_orphan_hides_no_undecided_job(engine: sa.Engine, run: SyncRun) -> None:
    worker_id = worker(run)
    holder, parked, other = defer(run, lock="l"), defer(run, lock="l"), defer(run, lock="m")
    settle(run)
    leave_unseen(run, holder)
    with open_transaction(engine) as user:
        query(user, "SELECT FROM procrastinate_jobs WHERE id = :id FOR UPDATE", id=other)
        defer(run, lock="l")
        defer(run, lock="m")
        promotion = run(core.promote_jobs)
        user.rollback()
    assert (promotion.promoted, promotion.parked, promotion.undecided, promotion.again) == (1, 1, 1, True)
    assert readiness(run, parked) == Readiness.PROMOTED
    assert len(start_order(run, worker_id)) == 4


def test_a_pause_lets_no_parked_job_pass_another(run: SyncRun) -> None:
    """The lock goes to a due job of an open queue, so the parked jobs stay where they are."""
    worker_id = worker(run)
    holder = defer(run, lock="l", priority=2)
    parked = [defer(run, lock="l") for _ in range(2)]
    settle(run)
    leave_unseen(run, holder)
    paused, first = defer(run, lock="l", queue_name="paused"), defer(run, lock="l", priority=1)
    run(core.promote_jobs, paused=["paused"])
    assert [readiness(run, job_id) for job_id in (first, *parked, paused)] == [
        Readiness.PROMOTED,
        *[Readiness.PARKED] * 3,
    ]
    assert start_order(run, worker_id) == [first, *parked, paused]
