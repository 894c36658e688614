"""The status of a job, its cancellation, and the request to abort it."""

from __future__ import annotations

import pytest

from procrastinate import core
from procrastinate.core import Status
from tests.conformance.runs import Run
from tests.conformance.steps import column, defer, fetch, fetch_one, finish, stored, worker


def test_the_status_of_a_job(run: Run) -> None:
    job_id = defer(run)
    assert run(core.get_job_status, job_id) is Status.TODO
    job = fetch_one(run, worker(run))
    assert run(core.get_job_status, job_id) is Status.DOING
    finish(run, job)
    assert run(core.get_job_status, job_id) is Status.SUCCEEDED


def test_an_unknown_job_has_no_status(run: Run) -> None:
    assert run(core.get_job_status, 12345) is None


@pytest.mark.parametrize("abort", [False, True])
def test_a_waiting_job_is_cancelled(run: Run, abort: bool) -> None:
    job_id = defer(run)
    assert run(core.cancel_job, job_id, abort=abort)
    assert (stored(run, job_id).status, stored(run, job_id).abort_requested) == (Status.CANCELLED, False)
    assert column(run, job_id, "finished_at") is not None
    assert fetch(run, worker(run)) == []


def test_a_waiting_job_is_cancelled_by_deleting_it(run: Run) -> None:
    job_id = defer(run)
    assert run(core.cancel_job, job_id, delete=True)
    assert run(core.get_job_status, job_id) is None


@pytest.mark.parametrize("delete", [False, True])
def test_a_running_job_is_not_cancelled(run: Run, delete: bool) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    assert not run(core.cancel_job, job.id, delete=delete)
    assert stored(run, job.id) == job


@pytest.mark.parametrize("delete", [False, True])
def test_a_running_job_is_asked_to_abort(run: Run, delete: bool) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    assert run(core.cancel_job, job.id, abort=True, delete=delete)
    assert (stored(run, job.id).status, stored(run, job.id).abort_requested) == (Status.DOING, True)


@pytest.mark.parametrize("abort", [False, True])
def test_an_ended_or_unknown_job_is_not_cancelled(run: Run, abort: bool) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    finish(run, job)
    assert not run(core.cancel_job, job.id, abort=abort)
    assert not run(core.cancel_job, 12345, abort=abort)
    assert stored(run, job.id).status == Status.SUCCEEDED


def test_the_jobs_to_abort_are_listed(run: Run) -> None:
    worker_id, other = worker(run), worker(run)
    a, b, _ = (defer(run, queue_name=name) for name in ("a", "b", "a"))
    fetch(run, worker_id, limit=2)
    c = fetch_one(run, other).id
    for job_id in (a, b, c):
        run(core.cancel_job, job_id, abort=True)
    assert run(core.list_jobs_to_abort) == [a, b, c]
    assert run(core.list_jobs_to_abort, queue_name="a") == [a, c]
    assert run(core.list_jobs_to_abort, worker_id=worker_id) == [a, b]
    assert run(core.list_jobs_to_abort, queue_name="a", worker_id=worker_id) == [a]


def test_an_aborted_job_is_not_listed_any_more(run: Run) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    run(core.cancel_job, job.id, abort=True)
    finish(run, job, status=Status.ABORTED)
    assert run(core.list_jobs_to_abort) == []
