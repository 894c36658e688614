"""The sweep frees parked jobs whose lock no job holds."""

from __future__ import annotations

from procrastinate import core
from procrastinate.core import Readiness, Sweep
from tests.conformance.runs import Run
from tests.conformance.steps import change, defer, fetch_ids, fetch_one, readiness, settle, worker
from tests.database import new_job


def park(run: Run, *ids: int) -> None:
    """Park jobs, whether their lock is held or not."""
    for job_id in ids:
        change(run, job_id, readiness=Readiness.PARKED)


def orphan(run: Run, *locks: str) -> list[int]:
    """Create one parked job for each lock, with no holder of the lock, and return their ids."""
    ids = run(core.defer_jobs, [new_job(lock=lock) for lock in locks])
    park(run, *ids)
    return ids


def test_there_may_be_nothing_to_sweep(run: Run) -> None:
    assert run(core.sweep_parked_jobs) == Sweep(unparked=0, reached=None)


def test_a_parked_job_whose_lock_is_free_is_unparked(run: Run) -> None:
    (job_id,) = orphan(run, "l")
    assert settle(run) == 0
    assert run(core.sweep_parked_jobs) == Sweep(unparked=1, reached=None)
    assert fetch_ids(run, worker(run)) == [job_id]


def test_the_most_important_job_of_a_lock_is_freed(run: Run) -> None:
    low, high = defer(run, lock="l"), defer(run, lock="l", priority=1)
    park(run, low, high)
    assert run(core.sweep_parked_jobs).unparked == 1
    assert (readiness(run, low), readiness(run, high)) == (Readiness.PARKED, Readiness.UNDECIDED)


def test_a_job_behind_a_running_holder_stays_parked(run: Run) -> None:
    worker_id = worker(run)
    defer(run, lock="l")
    parked = defer(run, lock="l")
    fetch_one(run, worker_id)
    assert run(core.sweep_parked_jobs) == Sweep(unparked=0, reached=None)
    assert readiness(run, parked) == Readiness.PARKED


def test_a_job_behind_a_holder_that_has_not_started_stays_parked(run: Run) -> None:
    defer(run, lock="l")
    parked = defer(run, lock="l")
    settle(run)
    assert run(core.sweep_parked_jobs).unparked == 0
    assert readiness(run, parked) == Readiness.PARKED


def test_a_sweep_in_steps_reaches_every_lock(run: Run) -> None:
    orphan(run, "", "a", "b", "c", "é", "z")
    unparked, start = 0, None
    for _ in range(20):
        sweep = run(core.sweep_parked_jobs, start=start, limit=2)
        unparked, start = unparked + sweep.unparked, sweep.reached
        if start is None:
            break
    assert (unparked, start) == (6, None)


def test_a_sweep_of_one_lock_a_step_comes_to_an_end(run: Run) -> None:
    """The sweep also gets past held locks."""
    worker_id = worker(run)
    run(core.defer_jobs, [new_job(lock=lock) for lock in ("a", "a", "b", "b", "c", "c")])
    assert len(fetch_ids(run, worker_id)) == 3
    start, steps = None, 0
    while steps < 20:
        start, steps = run(core.sweep_parked_jobs, start=start, limit=1).reached, steps + 1
        if start is None:
            break
    assert steps == 3
