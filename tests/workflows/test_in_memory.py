"""Whole workflows run in tests: in memory, and on the test's own connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import JobContext, Limit
from procrastinate.adapters.standalone import SQLAlchemyConnector
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.testing import InMemoryConnector, Jobs
from tests.workflows.tasks import Notes, declare


@pytest.fixture(params=["memory", "database"])
def app(request: pytest.FixtureRequest) -> Iterator[App]:
    if request.param == "memory":
        yield App(connector=InMemoryConnector())
        return
    engine: sa.Engine = request.getfixturevalue("engine")
    with App(connector=SQLAlchemyConnector(engine)).open() as app:
        yield app


@pytest.fixture
def tasks(app: App) -> Notes:
    return declare(app)


def test_a_test_runs_a_whole_workflow(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, name="first")
    pages = wf.group("pages", after=[first])
    pages.add_many(tasks.double, [{"number": number} for number in range(3)])
    wf.add(tasks.total, numbers=pages.values, more=1)
    wf.on_success(tasks.note, name="success")
    wf.on_failure(tasks.note, name="failure")
    with Jobs(app) as jobs:
        workflow_id = wf.defer()
        jobs.run()
    assert tasks.ran == ["first", 0, 1, 2, [0, 2, 4], "success"]
    info = app.workflows.get(workflow_id)
    assert (info.state, info.counts.succeeded) == ("succeeded", 5)
    assert info.finished_at is not None


def test_a_test_sees_the_failure_its_cascade_and_the_retry(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    last = wf.add(tasks.note, name="last", after=[wf.add(tasks.fail, step="fetch")])
    wf.on_failure(tasks.note, name="failure")
    with Jobs(app) as jobs:
        workflow_id = wf.defer()
        jobs.run(raise_errors=False)
        assert tasks.ran == ["failed", "failure"]
        assert last.job_id is not None
        assert "needs the success of fetch," in app.job_manager.get_result(last.job_id).errors[-1].message
        info = app.workflows.get(workflow_id)
        assert (info.state, info.counts.failed, info.counts.cancelled) == ("failed", 1, 1)
        assert app.workflows.retry(workflow_id) == 2
        assert app.workflows.get(workflow_id).state == "running"
        jobs.run(raise_errors=False)
    assert tasks.ran == ["failed", "failure", "failed"]
    assert app.workflows.get(workflow_id).state == "failed"


def test_a_test_sends_a_signal_and_moves_the_clock(app: App, tasks: Notes) -> None:
    wf = app.workflow("order", if_failed="hold")
    approved = wf.add_signal("approved", timeout=3600)
    wf.add(tasks.note, name=approved.value, delay=60)
    with Jobs(app) as jobs:
        workflow_id = wf.defer()
        jobs.run()
        app.workflows.signal(workflow_id, "approved", "yes")
        jobs.run()
        assert tasks.ran == []
        jobs.advance(minutes=2)
        jobs.run()
    assert tasks.ran == ["yes"]


def test_steps_with_a_limit_wait_for_their_time_and_their_slot_in_a_test(app: App, tasks: Notes) -> None:
    running: list[int] = []

    @app.task(limit=Limit("one", concurrency=1))
    def limited() -> None:
        (info,) = app.limits.list()
        running.append(info.held)

    wf = app.workflow("order")
    wf.add(limited, delay=60)
    wf.add(limited, after=[wf.add(tasks.note, name="first")])
    with Jobs(app) as jobs:
        wf.defer()
        jobs.run()
        assert running == [1]
        jobs.advance(minutes=2)
        jobs.run()
    assert running == [1, 1]


def test_a_cancelled_workflow_ends_in_a_test(app: App, tasks: Notes) -> None:
    wf = app.workflow("order")
    wf.add(tasks.note, name="never", after=[wf.add_signal("approved")])
    wf.on_end(tasks.note, name="end")
    with Jobs(app) as jobs:
        workflow_id = wf.defer()
        assert app.workflows.cancel(workflow_id) == 2
        jobs.run()
    assert tasks.ran == ["end"]
    assert [one.id for one in app.workflows.list(state="cancelled")] == [workflow_id]
    assert {node.state for node in app.workflows.graph(workflow_id).nodes} == {"cancelled", "succeeded"}


def test_a_step_of_a_workflow_that_is_marked_as_cancelled_does_not_start_in_a_test(app: App, tasks: Notes) -> None:
    wf = app.workflow("order")
    wf.add(tasks.note, name="second", after=[wf.add(tasks.note, name="first")])
    wf.on_end(tasks.note, name="end")
    with Jobs(app) as jobs:
        workflow_id = wf.defer()
        assert app.job_manager.begin_cancel(workflow_id)
        jobs.run()
    assert tasks.ran == ["end"]
    info = app.workflows.get(workflow_id)
    assert (info.state, info.counts.cancelled) == ("cancelled", 2)


def test_a_callback_reads_what_failed_and_leaves_out_what_followed(app: App, tasks: Notes) -> None:
    found: list[Any] = []

    @app.task(pass_context=True)
    def report(context: JobContext) -> None:
        found.extend(context.workflow.failed())

    wf = app.workflow("import")
    first = wf.add(tasks.fail, step="first", name="no such page")
    wf.add(tasks.note, after=[first])
    wf.add(tasks.note)
    wf.on_failure(report)
    with Jobs(app) as jobs:
        wf.defer()
        jobs.run(raise_errors=False)
    assert [(one.step, one.job_id, one.status, one.message) for one in found] == [
        ("first", first.job_id, Status.FAILED, "no such page")
    ]
    assert found[0].exception_class == "builtins.ValueError"
