"""Concurrent connections. Each step waits until PostgreSQL reports that the previous one has got far enough."""

from __future__ import annotations

import contextlib
import datetime
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, JobRetry, Readiness, Status, StoredJob, errors
from tests.conformance.runs import SyncRun
from tests.conformance.steps import (
    PAST,
    defer,
    fetch,
    fetch_ids,
    fetch_one,
    finish,
    query,
    readiness,
    settle,
    stored,
    worker,
)
from tests.database import new_job

R = TypeVar("R")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Yield a thread pool for calls that block on another connection."""
    with ThreadPoolExecutor(4) as threads:
        yield threads


@contextlib.contextmanager
def open_transaction(engine: sa.Engine, isolation_level: str = "READ COMMITTED") -> Iterator[sa.Connection]:
    """Open a user's transaction, and roll it back unless the test ends it."""
    with engine.connect() as connection:
        yield connection.execution_options(isolation_level=isolation_level)
        connection.rollback()


_BLOCKED = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND cardinality(pg_blocking_pids(pid)) > 0
"""


def wait_until_blocked(run: SyncRun, call: Future[Any]) -> None:
    """Return when the call waits for a lock that another connection holds."""
    for _ in range(20_000):
        if call.done():
            raise AssertionError(f"did not wait: {call.result()}")
        if run(query, _BLOCKED) == [(1,)]:
            return
    raise AssertionError("neither waits nor ends")


def wait_for(call: Future[R]) -> R:
    """Return the result of a call that is no longer blocked."""
    return call.result(timeout=30)


@contextlib.contextmanager
def lost_races() -> Iterator[None]:
    """Ignore the documented race in which a promotion sees another's commit too late. The caller repeats the
    promotion.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        if not (errors.is_unique_violation(error) or errors.is_passing(error)):
            raise


def promote_until_settled(run: SyncRun) -> int:
    """Promote like a worker: repeat a promotion that lost a race."""
    for _ in range(50):
        with lost_races():
            return settle(run)
    raise AssertionError("promotion loses every race")


def together(threads: ThreadPoolExecutor, *calls: Callable[[], R]) -> list[R]:
    """Run calls at once, and return their results."""
    return [wait_for(future) for future in [threads.submit(call) for call in calls]]


def held_locks(run: SyncRun) -> list[str]:
    """Return the locks of running and ready jobs, one entry per job."""
    statement = (
        "SELECT lock FROM procrastinate_jobs WHERE lock IS NOT NULL"
        " AND (status = 'doing' OR (status = 'todo' AND readiness = 1)) ORDER BY lock"
    )
    return [lock for (lock,) in run(query, statement)]


def test_one_worker_promotes_at_a_time(engine: sa.Engine, run: SyncRun) -> None:
    """The second worker neither waits nor promotes. It leaves the work to the first, and looks again later."""
    defer(run, lock="l")
    defer(run, scheduled_at=PAST)
    with open_transaction(engine) as first:
        assert core.promote_jobs(first, limit=1).promoted == 1
        second = run(core.promote_jobs)
        assert (second.promoted, second.again) == (0, True)
        first.commit()
    assert run(core.promote_jobs).promoted == 1


def test_promoters_without_the_turn_give_each_lock_to_one_job(run: SyncRun, threads: ThreadPoolExecutor) -> None:
    """They may deadlock, and are then called again."""
    run(core.defer_jobs, [new_job(lock=f"lock {number % 50}", priority=number % 7) for number in range(300)])

    def promote_all() -> None:
        again = True
        while again:
            with lost_races():
                again = run(core.promote_jobs, limit=20, without_turn=True).again

    together(threads, *[promote_all] * 4)
    assert len(set(held_locks(run))) == len(held_locks(run)) == 50


def test_a_promotion_that_has_not_seen_the_one_before_gives_no_lock_twice(engine: sa.Engine, run: SyncRun) -> None:
    """Its snapshot is older than the other commit. The unique index refuses the update, and the promotion is
    repeated.
    """
    defer(run, lock="l")
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as late, late.begin():
        query(late, "SELECT 1")
        assert run(core.promote_jobs).promoted == 1
        defer(run, lock="l", priority=1)
        with pytest.raises(sa.exc.DBAPIError) as caught:
            core.promote_jobs(late)
    assert errors.is_unique_violation(caught.value) or errors.is_passing(caught.value)
    assert settle(run) == 1
    assert held_locks(run) == ["l"]
    assert fetch_one(run, worker(run)).priority == 1


def test_many_promoters_of_many_locks_do_not_wait_for_each_other(run: SyncRun, threads: ThreadPoolExecutor) -> None:
    """Earlier, they updated jobs in different orders and deadlocked."""
    run(core.defer_jobs, [new_job(lock=f"lock {number % 300}", priority=number % 7) for number in range(1500)])

    def promote_all() -> None:
        again = True
        while again:
            with lost_races():
                again = run(core.promote_jobs, limit=100).again

    together(threads, *[promote_all] * 4)
    assert len(held_locks(run)) == 300


def test_a_user_who_holds_one_row_keeps_no_other_outcome_waiting(engine: sa.Engine, run: SyncRun) -> None:
    """An abort request stays open in a transaction. Only the outcome of that job is delayed."""
    worker_id = worker(run)
    for _ in range(3):
        defer(run)
    fetched = [fetch_one(run, worker_id) for _ in range(3)]
    with open_transaction(engine) as user:
        assert core.cancel_job(user, 2, abort=True)
        assert finish(run, *fetched) == {1, 3}
        rest = [FinishedJob(id=2, attempts=0, status=Status.SUCCEEDED)]
        assert run(core.list_held_jobs, rest, worker_id=worker_id) == {2}
        assert run(core.retry_jobs, [JobRetry(id=2, attempts=0)], worker_id=worker_id) == {}
        user.commit()
    assert finish(run, fetched[1]) == {2}
    assert run(core.list_held_jobs, rest, worker_id=worker_id) == set()


def test_a_retry_waits_briefly_for_a_queueing_lock_of_an_open_transaction(engine: sa.Engine, run: SyncRun) -> None:
    """After a short wait, the retry raises a lock timeout. It can be repeated without the queueing lock."""
    worker_id = worker(run)
    defer(run, queueing_lock="q")
    fetch_one(run, worker_id)
    with open_transaction(engine) as user:
        assert core.defer_job(user, new_job(queueing_lock="q"))
        with pytest.raises(sa.exc.DBAPIError) as caught:
            run(core.retry_jobs, [JobRetry(id=1, attempts=0)], worker_id=worker_id)
        assert errors.is_lock_timeout(caught.value)
        retries = [JobRetry(id=1, attempts=0)]
        assert run(core.retry_jobs, retries, worker_id=worker_id, keep_queueing_locks=False) == {1: Status.TODO}
        user.commit()


def test_a_job_that_is_just_being_retried_is_cancelled(
    engine: sa.Engine, run: SyncRun, threads: ThreadPoolExecutor
) -> None:
    """The job is running when the user reads it and waits again when the user writes. The cancellation must still
    apply.
    """
    worker_id = worker(run)
    defer(run)
    fetch_one(run, worker_id)
    with open_transaction(engine) as recorder:
        core.retry_jobs(recorder, [JobRetry(id=1, attempts=0)], worker_id=worker_id)
        cancelling = threads.submit(run, core.cancel_job, 1, abort=True)
        wait_until_blocked(run, cancelling)
        recorder.commit()
        assert wait_for(cancelling)
    assert stored(run, 1).status is Status.CANCELLED


def test_a_job_inserted_in_a_long_transaction_is_not_forgotten_when_its_lock_is_freed(
    engine: sa.Engine, run: SyncRun
) -> None:
    """The finishing holder cannot see the job. The next promotion after its commit does."""
    worker_id = worker(run)
    defer(run, lock="l")
    holder = fetch_one(run, worker_id)
    with open_transaction(engine) as user:
        late = core.defer_job(user, new_job(lock="l"))
        finish(run, holder)
        assert fetch_ids(run, worker_id) == []
        user.commit()
    assert fetch_ids(run, worker_id) == [late]


def test_a_waiting_job_is_not_parked_behind_a_holder_that_is_just_leaving(engine: sa.Engine, run: SyncRun) -> None:
    """If it were parked, it would wait for a trigger that has already run."""
    worker_id = worker(run)
    defer(run, lock="l")
    holder = fetch_one(run, worker_id)
    late = defer(run, lock="l")
    with open_transaction(engine) as finishing:
        core.finish_jobs(
            finishing, [FinishedJob(id=holder.id, attempts=0, status=Status.SUCCEEDED)], worker_id=worker_id
        )
        promotion = run(core.promote_jobs)
        assert (promotion.promoted, promotion.again) == (0, True)
        finishing.commit()
    assert fetch_ids(run, worker_id) == [late]


def test_a_holder_cannot_leave_while_a_job_is_parked_behind_it(engine: sa.Engine, run: SyncRun) -> None:
    """Its worker retries, and then the trigger unparks the job."""
    worker_id = worker(run)
    defer(run, lock="l")
    holder = fetch_one(run, worker_id)
    late = defer(run, lock="l")
    with open_transaction(engine) as promoting:
        core.promote_jobs(promoting)
        assert finish(run, holder) == set()
        promoting.commit()
    assert finish(run, holder) == {holder.id}
    assert fetch_ids(run, worker_id) == [late]


def test_a_users_transaction_on_a_holder_keeps_no_other_lock_waiting(engine: sa.Engine, run: SyncRun) -> None:
    """Of the jobs behind the holder, only one is checked again and again."""
    worker_id = worker(run)
    holder = defer(run, lock="l")
    settle(run)
    run(core.defer_jobs, [new_job(lock="l") for _ in range(20)])
    other, due = defer(run, lock="other"), defer(run, scheduled_at=PAST)
    with open_transaction(engine) as user:
        query(user, "SELECT FROM procrastinate_jobs WHERE id = :id FOR UPDATE", id=holder)
        for _ in range(3):
            run(core.promote_jobs, limit=10)
        ready = run(core.fetch_jobs, worker_id=worker_id, limit=10)
        user.rollback()
    assert [job.id for job in ready] == [other, due]
    order = []
    while jobs := fetch(run, worker_id):
        order += [job.id for job in jobs]
        finish(run, *jobs)
    assert order == list(range(holder, holder + 21))


@pytest.mark.parametrize("leave", ["cancel", "delete", "reschedule"])
def test_the_one_job_that_was_left_undecided_lets_the_others_go(engine: sa.Engine, run: SyncRun, leave: str) -> None:
    worker_id = worker(run)
    holder = defer(run, lock="l")
    settle(run)
    first, second = defer(run, lock="l"), defer(run, lock="l")
    with open_transaction(engine) as user:
        assert core.cancel_job(user, holder)
        run(core.promote_jobs)
        user.commit()
    assert [readiness(run, job_id) for job_id in (first, second)] == [Readiness.PARKED, Readiness.UNDECIDED]
    if leave == "reschedule":
        run(query, "UPDATE procrastinate_jobs SET scheduled_at = '2100-01-01Z' WHERE id = :id", id=second)
    else:
        assert run(core.cancel_job, second, delete=leave == "delete")
    assert fetch_ids(run, worker_id) == [first]


def test_a_users_transaction_on_the_next_parked_job_does_not_keep_the_holder_from_finishing(
    engine: sa.Engine, run: SyncRun
) -> None:
    """The trigger skips the locked job. After the user's rollback, the sweep finds it."""
    worker_id = worker(run)
    defer(run, lock="l")
    holder = fetch_one(run, worker_id)
    parked = defer(run, lock="l")
    settle(run)
    with open_transaction(engine) as user:
        assert core.cancel_job(user, parked)
        assert finish(run, holder) == {holder.id}
        user.rollback()
    assert fetch_ids(run, worker_id) == []
    assert run(core.sweep_parked_jobs).unparked == 1
    assert fetch_ids(run, worker_id) == [parked]


def test_a_job_is_passed_over_in_favour_of_the_one_behind_it(engine: sa.Engine, run: SyncRun) -> None:
    """A user's transaction that locks the next job of a lock does not delay the jobs behind it."""
    worker_id = worker(run)
    defer(run, lock="l")
    holder = fetch_one(run, worker_id)
    parked, behind = defer(run, lock="l"), defer(run, lock="l")
    settle(run)
    with open_transaction(engine) as user:
        assert core.cancel_job(user, parked)
        finish(run, holder)
        assert fetch_ids(run, worker_id) == [behind]
        user.commit()
    assert stored(run, parked).status == Status.CANCELLED


def test_a_repeatable_read_transaction_that_cannot_see_the_parked_job_leaves_it_to_a_worker(
    engine: sa.Engine, run: SyncRun
) -> None:
    """The trigger reads with the snapshot of the transaction. So it notes that the lock may be free."""
    holder = defer(run, lock="l")
    settle(run)
    with open_transaction(engine, "REPEATABLE READ") as user:
        core.get_job_status(user, holder)
        parked = defer(run, lock="l")
        settle(run)
        assert core.cancel_job(user, holder)
        user.commit()
    assert settle(run) == 1
    assert fetch_ids(run, worker(run)) == [parked]


def test_a_sweep_does_not_hide_a_parked_job_from_the_holder_that_leaves(engine: sa.Engine, run: SyncRun) -> None:
    """The sweep locks no job whose lock is held, because the trigger would skip the locked row."""
    worker_id = worker(run)
    defer(run, lock="l")
    holder = fetch_one(run, worker_id)
    parked = defer(run, lock="l")
    settle(run)
    with open_transaction(engine) as sweeping:
        core.sweep_parked_jobs(sweeping)
        finish(run, holder)
        assert fetch_ids(run, worker_id) == [parked]


def test_two_fetches_at_once_take_different_jobs(engine: sa.Engine, run: SyncRun) -> None:
    """The second fetch does not block and gets other jobs."""
    workers = [worker(run), worker(run)]
    run(core.defer_jobs, [new_job() for _ in range(5)])
    with open_transaction(engine) as first:
        taken = [job.id for job in core.fetch_jobs(first, worker_id=workers[0], limit=2)]
        others = [job.id for job in run(core.fetch_jobs, worker_id=workers[1], limit=2)]
        first.commit()
    assert (taken, others) == ([1, 2], [3, 4])


def test_two_fetches_from_several_queues_at_once_take_different_jobs(engine: sa.Engine, run: SyncRun) -> None:
    workers = [worker(run), worker(run)]
    run(core.defer_jobs, [new_job(queue_name=name) for name in ("a", "b", "a", "b", "a")])
    with open_transaction(engine) as first:
        taken = core.fetch_jobs(first, worker_id=workers[0], limit=2, queues=["a", "b"])
        others = run(core.fetch_jobs, worker_id=workers[1], limit=2, queues=["a", "b"])
        first.commit()
    assert [[job.id for job in batch] for batch in (taken, others)] == [[1, 2], [3, 4]]


def drain(run: SyncRun, seen: list[StoredJob]) -> None:
    """Run jobs until none is left, and record each while it holds its lock."""
    worker_id = worker(run)
    while run(query, "SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing') LIMIT 1"):
        promote_until_settled(run)
        for job in run(core.fetch_jobs, worker_id=worker_id, limit=3):
            locks = held_locks(run)
            assert len(locks) == len(set(locks))
            seen.append(job)
            while not finish(run, job):  # skipped while a promotion locks the row, as documented
                pass


def test_workers_at_once_run_each_job_once_and_one_of_a_lock_at_a_time(
    run: SyncRun, engine: sa.Engine, threads: ThreadPoolExecutor
) -> None:
    locks = itertools.cycle(["a", "b", "c", None])
    run(core.defer_jobs, [new_job(lock=next(locks), priority=number % 3) for number in range(80)])
    seen: list[list[StoredJob]] = [[], [], []]
    together(threads, *(lambda jobs=jobs: drain(SyncRun(engine), jobs) for jobs in seen))
    assert sorted(job.id for jobs in seen for job in jobs) == list(range(1, 81))
    counted = run(query, "SELECT status::text, attempts, count(*) FROM procrastinate_jobs GROUP BY 1, 2")
    assert counted == [("succeeded", 1, 80)]


def test_a_retry_and_a_new_job_want_one_queueing_lock_at_once(
    engine: sa.Engine, run: SyncRun, threads: ThreadPoolExecutor
) -> None:
    """The unique index refuses the retry. Repeated, the retry sees that the lock is taken."""
    worker_id = worker(run)
    defer(run, queueing_lock="q")
    job = fetch_one(run, worker_id)
    retries = [JobRetry(id=job.id, attempts=0)]
    with open_transaction(engine) as user:
        core.defer_job(user, new_job(queueing_lock="q"))
        retrying = threads.submit(run, core.retry_jobs, retries, worker_id=worker_id)
        wait_until_blocked(run, retrying)
        user.commit()
        with pytest.raises(sa.exc.IntegrityError) as caught:
            wait_for(retrying)
    assert errors.is_unique_violation(caught.value)
    assert run(core.retry_jobs, retries, worker_id=worker_id) == {job.id: Status.TODO}
    assert stored(run, job.id).queueing_lock is None


def test_a_new_job_and_a_retry_want_one_queueing_lock_at_once(
    engine: sa.Engine, run: SyncRun, threads: ThreadPoolExecutor
) -> None:
    """The new job waits for the retry, and finds the lock taken."""
    worker_id = worker(run)
    defer(run, queueing_lock="q")
    job = fetch_one(run, worker_id)
    with open_transaction(engine) as retrying:
        core.retry_jobs(retrying, [JobRetry(id=job.id, attempts=0)], worker_id=worker_id)
        deferring = threads.submit(run, core.defer_job, new_job(queueing_lock="q"))
        wait_until_blocked(run, deferring)
        retrying.commit()
    assert wait_for(deferring) is None
    assert stored(run, job.id).queueing_lock == "q"


def test_a_retry_by_hand_and_a_new_job_want_one_queueing_lock_at_once(
    engine: sa.Engine, run: SyncRun, threads: ThreadPoolExecutor
) -> None:
    """The retry by hand repeats itself, and the transaction stays usable."""
    defer(run, queueing_lock="q")
    job = fetch_one(run, worker(run))
    with open_transaction(engine) as user:
        core.defer_job(user, new_job(queueing_lock="q"))
        retrying = threads.submit(run, core.retry_job_by_id, job.id)
        wait_until_blocked(run, retrying)
        user.commit()
    assert wait_for(retrying) is True
    assert stored(run, job.id).queueing_lock is None


def test_two_new_jobs_want_one_queueing_lock_at_once(
    engine: sa.Engine, run: SyncRun, threads: ThreadPoolExecutor
) -> None:
    with open_transaction(engine) as first:
        assert core.defer_job(first, new_job(queueing_lock="q")) is not None
        second = threads.submit(run, core.defer_job, new_job(queueing_lock="q"))
        wait_until_blocked(run, second)
        first.commit()
    assert wait_for(second) is None


def test_a_job_that_another_transaction_has_just_committed_is_found_by_who_skips(
    engine: sa.Engine, run: SyncRun, threads: ThreadPoolExecutor
) -> None:
    """The statement that waited for the commit does not see the job, but the next one does."""
    with open_transaction(engine) as user:
        first = core.defer_job(user, new_job(queueing_lock="q"))
        second = threads.submit(run, core.defer_job_or_skip, new_job(queueing_lock="q"))
        batch = threads.submit(run, core.defer_jobs_or_skip, [new_job(), new_job(queueing_lock="q")])
        while run(query, _BLOCKED) != [(2,)]:
            assert [second.done(), batch.done()] == [False, False]
        user.commit()
    ids = wait_for(batch)
    assert wait_for(second) == first
    assert ids is not None
    assert ids[1] == first
    assert len(run(core.list_jobs, core.JobFilter())) == 2


@pytest.mark.parametrize("operation", [core.defer_jobs_or_skip, core.defer_jobs_or_replace])
def test_a_job_that_starts_while_another_wants_its_queueing_lock_is_left_alone(
    engine: sa.Engine, run: SyncRun, threads: ThreadPoolExecutor, operation: Any
) -> None:
    running = defer(run, queueing_lock="q", args='{"a": 1}')
    worker_id = worker(run)
    with open_transaction(engine) as fetching:
        assert [job.id for job in core.fetch_jobs(fetching, worker_id=worker_id, limit=1)] == [running]
        new = threads.submit(run, operation, [new_job(queueing_lock="q", args='{"a": 2}')])
        wait_until_blocked(run, new)
        fetching.commit()
    (new_id,) = wait_for(new)
    assert new_id != running
    assert (stored(run, running).args, stored(run, running).status) == ('{"a": 1}', Status.DOING)
    assert (stored(run, new_id).args, stored(run, new_id).status) == ('{"a": 2}', Status.TODO)


def test_batches_that_replace_the_same_jobs_in_another_order_do_not_wait_for_each_other(
    engine: sa.Engine, run: SyncRun, threads: ThreadPoolExecutor
) -> None:
    batch = [new_job(queueing_lock=f"q{number}") for number in range(100)]
    ids = run(core.defer_jobs_or_replace, batch)

    def replace_all(new_jobs: list[core.NewJob]) -> None:
        for _ in range(20):
            run(core.defer_jobs_or_replace, new_jobs)

    together(threads, lambda: replace_all(batch), lambda: replace_all(batch[::-1]))
    assert run(core.defer_jobs_or_replace, batch) == ids


def test_a_tick_is_deferred_once_by_two_connections_at_once(
    engine: sa.Engine, run: SyncRun, threads: ThreadPoolExecutor
) -> None:
    tick: dict[str, Any] = {"periodic_id": "", "defer_timestamp": 100}
    with open_transaction(engine) as first:
        mine = core.defer_tick(first, new_job(), **tick)
        second = threads.submit(run, core.defer_tick, new_job(), **tick)
        wait_until_blocked(run, second)
        first.commit()
    assert (mine.job_id, wait_for(second).job_id) == (1, None)


def test_a_tick_that_was_rolled_back_is_deferred_by_the_other(
    engine: sa.Engine, run: SyncRun, threads: ThreadPoolExecutor
) -> None:
    tick: dict[str, Any] = {"periodic_id": "", "defer_timestamp": 100}
    with open_transaction(engine) as first:
        core.defer_tick(first, new_job(), **tick)
        second = threads.submit(run, core.defer_tick, new_job(), **tick)
        wait_until_blocked(run, second)
        first.rollback()
    outcome = wait_for(second)
    assert outcome.job_id is not None
    assert stored(run, outcome.job_id).status == Status.TODO


def test_two_rescuers_take_different_jobs(engine: sa.Engine, run: SyncRun) -> None:
    worker_id = worker(run)
    run(core.defer_jobs, [new_job() for _ in range(4)])
    fetch(run, worker_id)
    run(core.unregister_worker, worker_id)
    with open_transaction(engine) as first:
        mine = core.rescue_jobs(first, max_rescues=3, limit=2)
        others = run(core.rescue_jobs, max_rescues=3)
        first.commit()
    assert [[job.id for job in batch] for batch in (mine, others)] == [[1, 2], [3, 4]]


@pytest.fixture
def slow_run(database_url: str) -> SyncRun:
    """Run rescues that take their snapshot, then block while another session holds advisory lock 1."""
    slow = sa.create_engine(database_url, poolclass=sa.NullPool)

    @sa.event.listens_for(slow, "before_cursor_execute", retval=True)
    def stand_still(*arguments: Any) -> tuple[str, Any]:
        _connection, _cursor, statement, parameters, *_rest = arguments
        wait = "WHERE pg_advisory_lock_shared(1)::text IS NOT NULL AND lost.status = "
        return statement.replace("WHERE lost.status = ", wait), parameters

    return SyncRun(slow)


def test_a_slow_rescuer_leaves_alone_what_a_live_worker_has_fetched_since(
    engine: sa.Engine, run: SyncRun, slow_run: SyncRun, threads: ThreadPoolExecutor
) -> None:
    """Its snapshot shows the job with the dead worker, but the current row belongs to a live one."""
    dead, alive = worker(run), worker(run)
    defer(run)
    job_id = fetch_one(run, dead).id
    run(core.unregister_worker, dead)
    with open_transaction(engine) as gate:
        query(gate, "SELECT pg_advisory_xact_lock(1)")
        slow = threads.submit(slow_run, core.rescue_jobs, max_rescues=3)
        wait_until_blocked(run, slow)
        run(core.rescue_jobs, max_rescues=3)
        assert fetch_one(run, alive).id == job_id
        gate.rollback()
    assert wait_for(slow) == []
    assert (stored(run, job_id).status, stored(run, job_id).worker_id) == (Status.DOING, alive)


def test_a_rescued_job_is_not_recorded_by_the_worker_that_was_thought_dead(engine: sa.Engine, run: SyncRun) -> None:
    """The outcome is refused during the rescue and afterwards."""
    worker_id = worker(run)
    defer(run)
    job = fetch_one(run, worker_id)
    run(core.unregister_worker, worker_id)
    with open_transaction(engine) as rescuing:
        core.rescue_jobs(rescuing, max_rescues=3)
        assert finish(run, job) == set()
        rescuing.commit()
    assert finish(run, job) == set()
    assert stored(run, job.id).status == Status.TODO


def test_a_job_that_is_being_cancelled_is_not_fetched(engine: sa.Engine, run: SyncRun) -> None:
    """The fetch skips the locked row without waiting."""
    worker_id = worker(run)
    defer(run)
    with open_transaction(engine) as user:
        assert core.cancel_job(user, 1)
        assert fetch_ids(run, worker_id) == []
        user.commit()
    assert fetch_ids(run, worker_id) == []


def test_a_job_that_is_being_fetched_is_not_cancelled(
    engine: sa.Engine, run: SyncRun, threads: ThreadPoolExecutor
) -> None:
    worker_id = worker(run)
    defer(run)
    with open_transaction(engine) as fetching:
        core.fetch_jobs(fetching, worker_id=worker_id, limit=1)
        cancelling = threads.submit(run, core.cancel_job, 1)
        wait_until_blocked(run, cancelling)
        fetching.commit()
    assert wait_for(cancelling) is False
    assert stored(run, 1).status == Status.DOING


def test_a_job_that_has_just_started_is_not_outranked(engine: sa.Engine, run: SyncRun) -> None:
    """The promotion cannot lock the holder's row while a fetch holds it."""
    worker_id = worker(run)
    low = defer(run, lock="l")
    settle(run)
    high = defer(run, lock="l", priority=1)
    with open_transaction(engine) as fetching:
        core.fetch_jobs(fetching, worker_id=worker_id, limit=1)
        promotion = run(core.promote_jobs)
        assert (promotion.promoted, promotion.again) == (0, True)
        fetching.commit()
    assert settle(run) == 0
    assert stored(run, low).status == Status.DOING
    assert readiness(run, high) == Readiness.PARKED


def test_two_sweeps_at_once_do_not_wait_for_each_other(engine: sa.Engine, run: SyncRun) -> None:
    run(core.defer_jobs, [new_job(lock="l"), new_job(lock="l")])
    run(query, "UPDATE procrastinate_jobs SET readiness = 2")
    with open_transaction(engine) as first:
        assert core.sweep_parked_jobs(first).unparked == 1
        run(core.sweep_parked_jobs)
        first.commit()
    assert fetch_ids(run, worker(run)) == [1]


def test_deleting_finished_jobs_passes_over_those_that_others_hold(engine: sa.Engine, run: SyncRun) -> None:
    run(core.defer_jobs, [new_job(), new_job()])
    finish(run, *fetch(run, worker(run)))
    run(query, "UPDATE procrastinate_jobs SET finished_at = finished_at - interval '1 hour'")
    with open_transaction(engine) as user:
        query(user, "SELECT FROM procrastinate_jobs WHERE id = 1 FOR UPDATE")
        forget = {"older_than": datetime.timedelta(minutes=1), "statuses": [Status.SUCCEEDED]}
        assert run(core.delete_finished_jobs, **forget) == 1
        user.rollback()
    assert run(core.delete_finished_jobs, **forget) == 1
