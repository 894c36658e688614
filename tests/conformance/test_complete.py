"""A job that ends in its task's own transaction."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest

from procrastinate import core, exceptions
from procrastinate.core import FinishedJob, Status, StoredJob
from tests.conformance.runs import Run
from tests.conformance.steps import Rollback, column, defer, fetch_one, list_history, stored, worker


def complete(run: Run, job: StoredJob, *, delete: bool = False) -> None:
    """End a job as its task would."""
    assert job.worker_id is not None
    finished = FinishedJob(id=job.id, attempts=job.attempts, status=Status.SUCCEEDED, delete=delete)
    run(core.complete_job, finished, worker_id=job.worker_id)


def test_a_job_is_completed_with_the_transaction(run: Run) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    with run.transaction():
        complete(run, job)
    after = stored(run, job.id)
    assert (after.status, after.attempts, after.worker_id) == (Status.SUCCEEDED, 1, job.worker_id)
    assert column(run, job.id, "finished_at") is not None
    assert run(list_history, job.id) == ["deferred", "started", "succeeded"]


@pytest.mark.needs_database(reason="in memory, nothing is rolled back")
def test_a_job_is_not_completed_if_the_transaction_is_rolled_back(run: Run) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    with contextlib.suppress(Rollback), run.transaction():
        complete(run, job)
        raise Rollback
    assert stored(run, job.id) == job


def test_a_completed_job_is_deleted_where_that_is_asked_for(run: Run) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    complete(run, job, delete=True)
    assert run(core.get_job_status, job.id) is None


@pytest.mark.parametrize("delete", [False, True])
def test_a_job_that_another_worker_has_is_not_completed(run: Run, delete: bool) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    with pytest.raises(exceptions.JobNotHeld):
        complete(run, dataclasses.replace(job, worker_id=worker(run)), delete=delete)
    assert stored(run, job.id) == job


@pytest.mark.parametrize("delete", [False, True])
def test_a_job_is_not_completed_by_an_earlier_run(run: Run, delete: bool) -> None:
    """Not even for the same worker."""
    defer(run)
    worker_id = worker(run)
    first = fetch_one(run, worker_id)
    assert run(core.retry_job_by_id, first.id)
    second = fetch_one(run, worker_id)
    with pytest.raises(exceptions.JobNotHeld):
        complete(run, first, delete=delete)
    assert stored(run, first.id) == second


def test_a_job_is_not_completed_twice(run: Run) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    complete(run, job)
    with pytest.raises(exceptions.JobNotHeld):
        complete(run, job)
    assert stored(run, job.id).attempts == 1
