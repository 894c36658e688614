"""Each worker stores its heartbeat interval and stall timeout, and other workers judge it by these."""

from __future__ import annotations

import dataclasses

import pytest

from procrastinate import core
from procrastinate.core import LateWorker, WorkerTerms
from tests.conformance.runs import Run
from tests.conformance.steps import defer, fetch_one, list_workers, silence, worker

PATIENT = WorkerTerms(heartbeat_interval=60, stalled_timeout=300)
HASTY = {"heartbeat_interval": 1.0, "stalled_timeout": 5.0}
"""The judging worker's own terms, for workers that store none."""


def look(run: Run, judge: int) -> list[LateWorker]:
    """Return the late workers that a worker with hasty terms sees."""
    return run(core.list_late_workers, worker_id=judge, **HASTY)


def test_a_heartbeat_may_bring_terms_by_which_the_worker_is_judged_from_then_on(run: Run) -> None:
    leaving = run(core.register_worker, PATIENT)
    assert run(core.update_heartbeat, leaving, WorkerTerms(heartbeat_interval=1, stalled_timeout=2))
    silence(run, leaving, seconds=10)
    (seen,) = look(run, worker(run))
    assert (seen.id, seen.heartbeat_interval, seen.stalled_timeout) == (leaving, 1, 2)


def test_a_worker_that_may_be_silent_for_longer_is_not_pruned(run: Run) -> None:
    patient, other = run(core.register_worker, PATIENT), worker(run)
    for worker_id in (patient, other):
        silence(run, worker_id, seconds=60)
    assert run(core.prune_stalled_workers, seconds_since_heartbeat=5) == [other]
    silence(run, patient, seconds=301)
    assert run(core.prune_stalled_workers, seconds_since_heartbeat=5) == [patient]


def test_the_jobs_of_a_worker_that_may_be_silent_for_longer_are_not_stalled(run: Run) -> None:
    patient = run(core.register_worker, PATIENT)
    job_id = defer(run)
    fetch_one(run, patient)
    silence(run, patient, seconds=60)
    assert run(core.list_stalled_jobs, seconds_since_heartbeat=30) == []
    silence(run, patient, seconds=301)
    assert [job.id for job in run(core.list_stalled_jobs, seconds_since_heartbeat=30)] == [job_id]


def test_a_retry_by_hand_spares_the_job_of_a_worker_that_may_be_silent_for_longer(run: Run) -> None:
    patient = run(core.register_worker, PATIENT)
    job_id = defer(run)
    fetch_one(run, patient)
    silence(run, patient, seconds=60)
    assert not run(core.retry_job_by_id, job_id, spare_running=True)
    silence(run, patient, seconds=301)
    assert run(core.retry_job_by_id, job_id, spare_running=True)


def test_a_worker_with_a_short_timeout_is_spared_by_a_retry_for_half_a_minute(run: Run) -> None:
    hasty = run(core.register_worker, WorkerTerms(**HASTY))
    job_id = defer(run)
    fetch_one(run, hasty)
    silence(run, hasty, seconds=20)
    assert not run(core.retry_job_by_id, job_id, spare_running=True)


def test_late_workers_are_seen_with_their_own_terms(run: Run) -> None:
    judge, patient, other = worker(run), run(core.register_worker, PATIENT), worker(run)
    silence(run, patient, seconds=80)
    silence(run, other, seconds=4)
    defer(run)
    fetch_one(run, other)
    seen = {one.id: one for one in look(run, judge)}
    assert seen.keys() == {patient, other}
    assert (seen[patient].heartbeat_interval, seen[patient].stalled_timeout) == (60, 300)
    assert (seen[other].heartbeat_interval, seen[other].stalled_timeout) == (1, 5)
    assert seen[patient].age == pytest.approx(80, abs=20)
    assert [seen[one].has_jobs for one in (patient, other)] == [False, True]


def test_a_worker_that_has_beaten_in_time_is_not_late(run: Run) -> None:
    judge, patient = worker(run), run(core.register_worker, PATIENT)
    silence(run, patient, seconds=30)
    assert look(run, judge) == []


def test_a_worker_does_not_look_at_itself(run: Run) -> None:
    judge = worker(run)
    silence(run, judge)
    assert look(run, judge) == []


def test_a_heartbeat_of_a_time_to_come_is_seen(run: Run) -> None:
    """This happens after the database clock was set back, or after a failover."""
    judge, other = worker(run), worker(run)
    silence(run, other, seconds=-3600)
    (seen,) = look(run, judge)
    assert (seen.id, seen.age) == (other, pytest.approx(-3600, abs=20))


def test_dead_workers_are_removed(run: Run) -> None:
    judge, dead = worker(run), worker(run)
    silence(run, dead)
    assert run(core.remove_dead_workers, look(run, judge)) == [dead]
    assert run(list_workers) == [judge]


def test_a_worker_that_has_beaten_since_it_was_seen_is_not_removed(run: Run) -> None:
    judge, other = worker(run), worker(run)
    silence(run, other)
    seen = look(run, judge)
    assert run(core.update_heartbeat, other)
    assert run(core.remove_dead_workers, seen) == []


def test_a_judgement_that_arrives_late_is_void(run: Run) -> None:
    """The database hung after the check, so the worker's heartbeat may also be waiting for it."""
    judge, other = worker(run), worker(run)
    silence(run, other)
    seen = [dataclasses.replace(one, seen_at=one.seen_at - 6) for one in look(run, judge)]
    assert run(core.remove_dead_workers, seen) == []
    assert run(list_workers) == [judge, other]
