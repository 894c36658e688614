"""Workers: registration, heartbeats, pruning, and the rescue of jobs whose worker is gone."""

from __future__ import annotations

from procrastinate import core
from procrastinate.core import RescuedJob, Status
from tests.conformance.runs import Run
from tests.conformance.steps import (
    HOUR,
    age_history,
    change,
    column,
    defer,
    fetch,
    fetch_ids,
    fetch_one,
    list_workers,
    silence,
    stored,
    worker,
)


def workers(run: Run) -> list[int]:
    """Return the ids of the registered workers."""
    return run(list_workers)


def lose(run: Run, worker_id: int) -> None:
    """Remove a worker that has running jobs."""
    run(core.unregister_worker, worker_id)


def test_workers_come_and_go(run: Run) -> None:
    first, second = worker(run), worker(run)
    assert workers(run) == [first, second]
    run(core.unregister_worker, first)
    assert workers(run) == [second]


def test_a_heartbeat_keeps_a_worker_alive(run: Run) -> None:
    worker_id = worker(run)
    silence(run, worker_id)
    assert run(core.update_heartbeat, worker_id)
    assert run(core.prune_stalled_workers, seconds_since_heartbeat=60) == []


def test_the_heartbeat_of_a_pruned_worker_tells_it_so(run: Run) -> None:
    worker_id = worker(run)
    run(core.unregister_worker, worker_id)
    assert run(core.update_heartbeat, worker_id) is False


def test_silent_workers_are_pruned(run: Run) -> None:
    silent, alive = worker(run), worker(run)
    silence(run, silent, seconds=61)
    assert run(core.prune_stalled_workers, seconds_since_heartbeat=60.5) == [silent]
    assert workers(run) == [alive]


def test_the_jobs_of_silent_and_lost_workers_are_stalled(run: Run) -> None:
    silent, lost, alive = worker(run), worker(run), worker(run)
    for worker_id in (silent, lost, alive):
        defer(run)
        fetch_one(run, worker_id)
    silence(run, silent, seconds=61)
    lose(run, lost)
    assert [job.id for job in run(core.list_stalled_jobs, seconds_since_heartbeat=60)] == [1, 2]
    assert [job.id for job in run(core.list_stalled_jobs, seconds_since_heartbeat=120)] == [2]


def test_stalled_jobs_are_listed_by_queue_and_task(run: Run) -> None:
    worker_id = worker(run)
    for queue, task in (("a", "x"), ("b", "x"), ("b", "y")):
        defer(run, queue_name=queue, task_name=task)
    fetch(run, worker_id)
    lose(run, worker_id)
    for criteria, found in (({"queue_name": "b"}, [2, 3]), ({"task_name": "x"}, [1, 2])):
        assert [job.id for job in run(core.list_stalled_jobs, seconds_since_heartbeat=1, **criteria)] == found


def test_jobs_that_run_for_long_are_listed_whatever_their_worker_says(run: Run) -> None:
    worker_id = worker(run)
    for queue, task in (("a", "x"), ("b", "y"), ("b", "y")):
        defer(run, queue_name=queue, task_name=task)
    fetch(run, worker_id)
    for job_id in (1, 2):
        run(age_history, job_id, HOUR)
    assert [job.id for job in run(core.list_jobs_started_before, seconds=1800)] == [1, 2]
    assert [job.id for job in run(core.list_jobs_started_before, seconds=1800, queue_name="b")] == [2]
    assert [job.id for job in run(core.list_jobs_started_before, seconds=1800, task_name="x")] == [1]


def test_the_jobs_of_a_lost_worker_are_rescued(run: Run) -> None:
    lost, alive = worker(run), worker(run)
    defer(run, queue_name="a", task_name="x")
    defer(run)
    fetch_one(run, lost)
    fetch_one(run, alive)
    lose(run, lost)
    rescued = run(core.rescue_jobs, max_rescues=3)
    assert rescued == [RescuedJob(id=1, queue_name="a", task_name="x", status=Status.TODO, attempts=1)]
    after = stored(run, 1)
    assert (after.status, after.attempts, after.worker_id) == (Status.TODO, 1, None)
    assert column(run, 1, "rescues") == 1
    assert fetch_ids(run, alive) == [1]


def test_the_jobs_of_a_silent_worker_are_its_own_until_it_is_pruned(run: Run) -> None:
    worker_id = worker(run)
    defer(run)
    fetch_one(run, worker_id)
    silence(run, worker_id)
    assert run(core.rescue_jobs, max_rescues=3) == []
    run(core.prune_stalled_workers, seconds_since_heartbeat=60)
    assert len(run(core.rescue_jobs, max_rescues=3)) == 1


def test_jobs_of_which_their_worker_does_not_know_wait_again(run: Run) -> None:
    """Their fetch was committed, but its answer was lost. Jobs that the worker knows, and jobs of others, stay as they
    are.
    """
    mine, other = worker(run), worker(run)
    for _ in range(3):
        defer(run)
    assert fetch_ids(run, mine, limit=2) == [1, 2]
    assert fetch_ids(run, other) == [3]
    returned = run(core.return_unknown_jobs, worker_id=mine, known_ids={1}, max_rescues=3)
    assert [(job.id, job.status) for job in returned] == [(2, Status.TODO)]
    assert (stored(run, 2).attempts, column(run, 2, "rescues")) == (1, 1)
    assert run(core.return_unknown_jobs, worker_id=mine, known_ids=[1], max_rescues=3) == []
    assert len(run(core.return_unknown_jobs, worker_id=mine, known_ids=[], max_rescues=3)) == 1


def test_a_job_without_a_worker_is_rescued(run: Run) -> None:
    """Plain SQL or an older release may leave such a job."""
    defer(run)
    change(run, 1, status=Status.DOING)
    assert [job.id for job in run(core.rescue_jobs, max_rescues=3)] == [1]


def test_a_job_that_is_rescued_too_often_fails(run: Run) -> None:
    defer(run)
    statuses = []
    for _ in range(3):
        worker_id = worker(run)
        fetch_one(run, worker_id)
        lose(run, worker_id)
        (rescued,) = run(core.rescue_jobs, max_rescues=2)
        statuses.append(rescued.status)
    assert statuses == [Status.TODO, Status.TODO, Status.FAILED]
    assert (stored(run, 1).status, stored(run, 1).attempts) == (Status.FAILED, 3)
    assert column(run, 1, "finished_at") is not None


def test_a_lost_job_whose_abort_was_requested_ends_as_aborted(run: Run) -> None:
    worker_id = worker(run)
    defer(run)
    fetch_one(run, worker_id)
    run(core.cancel_job, 1, abort=True)
    lose(run, worker_id)
    assert [job.status for job in run(core.rescue_jobs, max_rescues=0)] == [Status.ABORTED]
    assert (stored(run, 1).status, stored(run, 1).abort_requested) == (Status.ABORTED, False)
    assert column(run, 1, "finished_at") is not None


def test_a_rescued_job_gives_way_to_the_one_that_took_its_queueing_lock(run: Run) -> None:
    worker_id = worker(run)
    defer(run, queueing_lock="q")
    fetch_one(run, worker_id)
    sibling = defer(run, queueing_lock="q")
    lose(run, worker_id)
    assert [job.status for job in run(core.rescue_jobs, max_rescues=3)] == [Status.TODO]
    assert (stored(run, 1).queueing_lock, stored(run, sibling).queueing_lock) == (None, "q")


def test_of_two_rescued_jobs_the_first_gets_their_queueing_lock(run: Run) -> None:
    worker_id = worker(run)
    for _ in range(2):
        defer(run, queueing_lock="q")
        fetch_one(run, worker_id)
    lose(run, worker_id)
    assert {job.status for job in run(core.rescue_jobs, max_rescues=3)} == {Status.TODO}
    assert [stored(run, job_id).queueing_lock for job_id in (1, 2)] == ["q", None]


def test_rescue_is_bounded(run: Run) -> None:
    worker_id = worker(run)
    for _ in range(3):
        defer(run)
    fetch(run, worker_id)
    lose(run, worker_id)
    assert [len(run(core.rescue_jobs, max_rescues=3, limit=2)) for _ in range(3)] == [2, 1, 0]


def test_a_rescued_locked_job_goes_on_before_the_next_of_its_lock(run: Run) -> None:
    lost = worker(run)
    holder, _ = defer(run, lock="l"), defer(run, lock="l")
    assert fetch_ids(run, lost) == [holder]
    lose(run, lost)
    run(core.rescue_jobs, max_rescues=3)
    assert fetch_ids(run, worker(run)) == [holder]
