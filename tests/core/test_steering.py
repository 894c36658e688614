"""What a person asks of one job changes no job that other jobs decide on."""

from __future__ import annotations

import pytest

import procrastinate
from procrastinate import core
from procrastinate.core import Status
from procrastinate.core.steering import run_job_again, run_job_now
from tests.conformance.runs import SyncRun
from tests.conformance.steps import FUTURE, defer, fetch_ids, settle, worker
from tests.database import libpq_url


@pytest.fixture
def app(database_url: str) -> procrastinate.App:
    """Return an app with a task that stores its result, and one that takes it."""
    app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=libpq_url(database_url)))
    app.task(lambda: 1, name="first", store_result=True)
    app.task(lambda value: None, name="then")
    return app


@pytest.fixture
def step(app: procrastinate.App) -> int:
    """Return a step that waits for the result of another one, which is job 1."""
    with app.open():
        workflow = app.workflow("two")
        workflow.add(app.tasks["then"], value=workflow.add(app.tasks["first"]).value)
        workflow.defer()
    return 2


def test_a_step_that_waits_for_others_does_not_run_now(run: SyncRun, step: int) -> None:
    assert not run(run_job_now, step)
    assert fetch_ids(run, worker(run)) == [1]


def test_a_scheduled_job_runs_now(run: SyncRun) -> None:
    job_id = defer(run, scheduled_at=FUTURE)
    assert run(run_job_now, job_id)
    settle(run)
    assert fetch_ids(run, worker(run)) == [job_id]


def test_a_step_that_takes_a_result_does_not_run_again(run: SyncRun, step: int) -> None:
    """Its arguments are stored without the result."""
    for job_id in (1, step):
        assert run(core.finish_job_by_id, job_id, status=Status.SUCCEEDED, delete=False)
    assert run(run_job_again, step) is None
    assert run(run_job_again, 1) == step + 1
