"""Pauses of queues, on each kind of connection."""

from __future__ import annotations

from procrastinate import core
from procrastinate._checks.times import utcnow
from procrastinate.core import Readiness, Status
from tests.conformance.runs import Run
from tests.conformance.steps import FUTURE, HOUR, PAST, defer, fetch, finish, readiness, stored, worker


def promote(run: Run, *paused: str) -> None:
    """Promote until nothing is left to decide."""
    for _ in range(20):
        if not run(core.promote_jobs, paused=paused).again:
            return
    raise AssertionError("promote_jobs comes to no end")


def fetch_open(run: Run, worker_id: int, *paused: str, queues: list[str] | None = None) -> list[int]:
    """Promote and fetch while these queues are paused, and return the ids."""
    promote(run, *paused)
    found = run(core.fetch_jobs, worker_id=worker_id, limit=10, queues=queues, paused=paused)
    return [job.id for job in found]


def test_a_pause_is_listed_until_it_is_ended(run: Run) -> None:
    run(core.pause_queue, "mail", reason="The server is down", by="ada")
    (pause,) = run(core.list_pauses)
    assert (pause.queue, pause.reason, pause.by, pause.until) == ("mail", "The server is down", "ada", None)
    assert pause.since is not None
    assert run(core.get_pauses) == {"mail": None}
    assert run(core.resume_queue, "mail")
    assert run(core.list_pauses) == []
    assert run(core.get_pauses) == {}
    assert not run(core.resume_queue, "mail")


def test_a_second_pause_changes_the_first_and_keeps_its_beginning(run: Run) -> None:
    run(core.pause_queue, "mail", reason="one")
    (first,) = run(core.list_pauses)
    run(core.pause_queue, "mail", reason="two", until=FUTURE)
    (second,) = run(core.list_pauses)
    assert (second.since, second.reason, second.until) == (first.since, "two", FUTURE)


def test_a_pause_ends_by_itself(run: Run) -> None:
    run(core.pause_queue, "mail", until=PAST)
    assert run(core.list_pauses) == []
    assert run(core.get_pauses) == {}
    assert not run(core.resume_queue, "mail")


def test_the_end_of_a_pause_is_told_in_seconds(run: Run) -> None:
    run(core.pause_queue, "mail", until=utcnow() + HOUR)
    (seconds,) = run(core.get_pauses).values()
    assert seconds is not None
    assert 3500 < seconds <= 3601


def test_a_heartbeat_brings_the_pauses(run: Run) -> None:
    worker_id = worker(run)
    assert run(core.beat, worker_id, core.WorkerReport(), interval=10.0).pauses == {}
    run(core.pause_queue, "mail")
    assert run(core.beat, worker_id, core.WorkerReport(), interval=10.0).pauses == {"mail": None}


def test_the_heartbeat_of_an_unregistered_worker_brings_nothing(run: Run) -> None:
    assert run(core.beat, 12345, core.WorkerReport(), interval=10.0) is None


def test_a_fetch_leaves_the_jobs_of_a_paused_queue_alone(run: Run) -> None:
    worker_id = worker(run)
    defer(run, queue_name="mail", priority=9)
    other = defer(run, queue_name="other")
    third = defer(run, queue_name="third", priority=1)
    assert fetch_open(run, worker_id, "mail") == [third, other]
    assert fetch_open(run, worker_id, "mail", queues=["mail", "other"]) == []
    assert fetch_open(run, worker_id, "mail", queues=["mail"]) == []


def test_a_fetch_from_named_queues_leaves_out_the_paused_ones(run: Run) -> None:
    worker_id = worker(run)
    defer(run, queue_name="mail")
    other = defer(run, queue_name="other")
    assert fetch_open(run, worker_id, "mail", queues=["mail", "other"]) == [other]


def test_a_fetch_with_a_pause_takes_jobs_in_order_across_queues(run: Run) -> None:
    worker_id = worker(run)
    ids = [defer(run, queue_name=queue) for queue in ("a", "b", "a", "c", "b")]
    assert fetch_open(run, worker_id, "mail") == ids


def test_a_due_job_of_a_paused_queue_gets_no_lock(run: Run) -> None:
    worker_id = worker(run)
    paused = defer(run, queue_name="mail", lock="k", priority=5)
    other = defer(run, queue_name="other", lock="k")
    assert fetch_open(run, worker_id, "mail") == [other]
    assert readiness(run, paused) == Readiness.PARKED


def test_a_scheduled_job_of_a_paused_queue_is_parked_when_it_is_due_and_goes_on_afterwards(run: Run) -> None:
    worker_id = worker(run)
    run(core.pause_queue, "mail")
    job = defer(run, queue_name="mail", scheduled_at=PAST)
    assert fetch_open(run, worker_id, "mail") == []
    assert readiness(run, job) == Readiness.PARKED
    assert run(core.unpark_resumed_jobs) == []
    run(core.resume_queue, "mail")
    assert len(run(core.unpark_resumed_jobs)) == 1
    assert fetch_open(run, worker_id) == [job]


def test_a_pause_takes_the_lock_from_a_job_that_has_not_started(run: Run) -> None:
    worker_id = worker(run)
    paused = defer(run, queue_name="mail", lock="k")
    promote(run)
    behind = defer(run, queue_name="other", lock="k")
    promote(run)
    assert readiness(run, behind) == Readiness.PARKED
    assert len(run(core.free_locks_of_paused, queue="mail")) == 1
    assert fetch_open(run, worker_id, "mail") == [behind]
    assert readiness(run, paused) == Readiness.PARKED


def test_the_next_job_of_an_open_queue_gets_the_lock_past_paused_ones(run: Run) -> None:
    worker_id = worker(run)
    holder = defer(run, queue_name="other", lock="k")
    (running,) = fetch(run, worker_id)
    for _ in range(3):
        defer(run, queue_name="mail", lock="k", priority=2)
    last = defer(run, queue_name="other", lock="k")
    promote(run)
    assert running.id == holder
    run(core.pause_queue, "mail")
    finish(run, running)
    assert fetch_open(run, worker_id, "mail") == [last]


def test_the_sweep_frees_no_job_of_a_paused_queue(run: Run) -> None:
    worker_id = worker(run)
    run(core.pause_queue, "mail")
    job = defer(run, queue_name="mail", lock="k")
    promote(run, "mail")
    assert run(core.sweep_parked_jobs).unparked == 0
    run(core.resume_queue, "mail")
    assert run(core.sweep_parked_jobs).unparked == 1
    assert fetch_open(run, worker_id) == [job]


def test_a_parked_job_of_a_paused_queue_can_be_cancelled(run: Run) -> None:
    worker_id = worker(run)
    job = defer(run, queue_name="mail", scheduled_at=PAST)
    promote(run, "mail")
    assert run(core.cancel_job, job, abort=False, delete=False)
    assert stored(run, job).status is Status.CANCELLED
    assert fetch_open(run, worker_id) == []


def test_a_running_job_of_a_paused_queue_is_recorded(run: Run) -> None:
    worker_id = worker(run)
    defer(run, queue_name="mail")
    (job,) = fetch(run, worker_id)
    run(core.pause_queue, "mail")
    assert finish(run, job) == {job.id}


def test_a_worker_registers_with_what_it_is(run: Run) -> None:
    identity = core.WorkerIdentity(
        name="w", hostname="h", pid=1, version="4", queues=("a", 'b"c'), concurrency=3, listens=True
    )
    worker_id = run(core.register_worker, core.WorkerTerms(), identity)
    report = core.WorkerReport(running=1, running_ids=(1,), loop_age=1.5, paused_queues=("a b",), error_code="42501")
    assert run(core.beat, worker_id, report, core.WorkerTerms(heartbeat_interval=0.2), interval=0.2).pauses == {}
