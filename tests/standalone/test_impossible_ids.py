"""Ids that no row can have, as the last part of a URL may be: there is no such job, and no error of the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

import procrastinate
from procrastinate import exceptions, utils
from procrastinate.core.defaults import LARGEST_ID
from procrastinate.testing import InMemoryConnector
from tests.database import libpq_url

Call = Callable[[procrastinate.App, Any], Any]

IMPOSSIBLE = (10**30, -(10**30), LARGEST_ID + 1, -LARGEST_ID - 2, "abc", "", "9" * 40, "1" * 5000, "1.5", "\0", None)
RAISE: dict[str, tuple[Call, type[Exception]]] = {
    "status": (lambda app, id_: app.job_manager.get_job_status(id_), exceptions.NoResult),
    "result": (lambda app, id_: app.job_manager.get_result(id_), exceptions.NoResult),
    "wait": (lambda app, id_: app.job_manager.wait(id_, timeout=1), exceptions.NoResult),
    "progress": (lambda app, id_: app.job_manager.get_progress(id_), exceptions.NoResult),
    "logs": (lambda app, id_: app.job_manager.get_logs(id_), exceptions.NoResult),
    "stack": (lambda app, id_: app.job_manager.get_stack(id_), exceptions.NoStack),
    "retry": (
        lambda app, id_: app.job_manager.retry_job_by_id(id_, utils.utcnow()),
        exceptions.JobNotRetriable,
    ),
    "workflow": (lambda app, id_: app.workflows.get(id_), exceptions.WorkflowNotFound),
    "wait for a workflow": (lambda app, id_: app.workflows.wait(id_, timeout=1), exceptions.WorkflowNotFound),
    "cancel a workflow": (lambda app, id_: app.workflows.cancel(id_), exceptions.WorkflowNotFound),
    "retry a workflow": (lambda app, id_: app.workflows.retry(id_), exceptions.WorkflowNotFound),
    "graph": (lambda app, id_: app.workflows.graph(id_), exceptions.WorkflowNotFound),
    "signal": (lambda app, id_: app.workflows.signal(id_, "approved"), exceptions.WorkflowNotFound),
}
ANSWER: dict[str, tuple[Call, Any]] = {
    "cancel": (lambda app, id_: app.job_manager.cancel_job_by_id(id_), False),
    "job": (lambda app, id_: app.inspect.job(id_), None),
    "logs on a page": (lambda app, id_: app.inspect.logs(id_), None),
    "reasons": (lambda app, id_: [one.code for one in app.inspect.explain(id_).reasons], ["never-given-out"]),
}


@pytest.fixture
def app(database_url: str) -> Iterator[procrastinate.App]:
    """An app on a database."""
    with procrastinate.App(connector=database_url).open() as app:
        yield app


@pytest.mark.parametrize("asked", IMPOSSIBLE, ids=lambda asked: repr(asked)[:20])
@pytest.mark.parametrize("call", RAISE)
def test_there_is_no_row_of_an_id_that_none_can_have(app: procrastinate.App, call: str, asked: Any) -> None:
    ask, error = RAISE[call]
    with pytest.raises(error):
        ask(app, asked)


@pytest.mark.parametrize("asked", IMPOSSIBLE, ids=lambda asked: repr(asked)[:20])
@pytest.mark.parametrize("call", ANSWER)
def test_an_id_that_no_row_can_have_finds_nothing(app: procrastinate.App, call: str, asked: Any) -> None:
    ask, answer = ANSWER[call]
    assert ask(app, asked) == answer


@pytest.mark.parametrize("asked", IMPOSSIBLE[:-1], ids=lambda asked: repr(asked)[:20])
def test_a_list_of_jobs_with_an_id_that_none_can_have_is_empty(app: procrastinate.App, asked: Any) -> None:
    app.configure_task("t").defer()
    assert list(app.job_manager.list_jobs(id=asked)) == []
    assert list(app.job_manager.list_jobs(worker_id=asked)) == []


def test_a_list_of_workflows_before_an_id_that_none_can_have_has_all(app: procrastinate.App) -> None:
    workflow = app.workflow("one")
    workflow.add_signal("approved")
    workflow_id = workflow.defer()
    assert [one.id for one in app.workflows.list(before=10**30)] == [workflow_id]


def test_the_text_of_an_id_is_an_id(app: procrastinate.App) -> None:
    job_id = app.configure_task("t").defer()
    assert app.job_manager.get_job_status(str(job_id)) == "todo"  # type: ignore[arg-type]
    assert [job.id for job in app.job_manager.list_jobs(id=str(job_id))] == [job_id]  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [True, 1.5, b"1", []], ids=repr)
def test_an_object_that_is_no_id_is_refused(app: procrastinate.App, asked: Any) -> None:
    with pytest.raises(TypeError, match="An id must be a whole number"):
        app.job_manager.get_job_status(asked)


def test_the_question_leaves_the_transaction_of_the_caller_usable(app: procrastinate.App, database_url: str) -> None:
    with psycopg.connect(libpq_url(database_url)) as connection:
        with pytest.raises(exceptions.NoResult):
            app.job_manager.get_job_status(10**30, connection=connection)
        app.configure_task("t", connection=connection).defer()
    assert len(list(app.job_manager.list_jobs())) == 1


def test_memory_says_the_same() -> None:
    app = procrastinate.App(connector=InMemoryConnector())
    for asked in IMPOSSIBLE:
        with pytest.raises(exceptions.NoResult):
            app.job_manager.get_job_status(asked)
        assert app.job_manager.cancel_job_by_id(asked) is False
