"""Ids that no row can have, as the last part of a URL may be: there is no such job, and no error of the database."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

import procrastinate
import procrastinate.jobs
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
    if not isinstance(asked, int) or asked > 0:  # a list may begin below all ids
        assert list(app.job_manager.list_jobs(after_id=asked)) == []


def test_a_list_of_workflows_before_an_id_that_none_can_have_has_all(app: procrastinate.App) -> None:
    workflow = app.workflow("one")
    workflow.add_signal("approved")
    workflow_id = workflow.defer()
    for before in (10**30, str(workflow_id + 1), "9" * 40):
        assert [one.id for one in app.workflows.list(before=before)] == [workflow_id]  # type: ignore[arg-type]


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


@pytest.mark.parametrize("connector", ["database", "memory"])
def test_a_page_of_jobs_may_begin_beyond_all_ids(database_url: str, connector: str) -> None:
    with procrastinate.App(connector=InMemoryConnector() if connector == "memory" else database_url).open() as app:
        ids = [app.configure_task("t").defer() for _ in range(3)]
        manager = app.job_manager
        assert [job.id for job in manager.list_jobs(after_id=-(10**30), limit=10**30)] == ids
        assert manager.list_jobs(after_id=10**30) == manager.list_jobs(limit=0) == []
        for limit, error in ((-1, ValueError), (1.5, TypeError), ("1", TypeError)):
            with pytest.raises(error, match="limit must be"):
                manager.list_jobs(limit=limit)  # type: ignore[arg-type]


def test_a_list_of_workflows_before_all_ids_is_empty(app: procrastinate.App) -> None:
    workflow = app.workflow("one")
    workflow.add_signal("approved")
    workflow.defer()
    assert app.workflows.list(before=-(10**30)) == []


@pytest.mark.parametrize("name", ["\0", "\ud800"], ids=ascii)
def test_a_name_that_no_row_can_have_finds_nothing(app: procrastinate.App, name: str) -> None:
    workflow = app.workflow("one")
    workflow.add_signal("approved")
    workflow_id = workflow.defer()
    manager = app.job_manager
    with pytest.raises(exceptions.WorkflowNotFound):
        app.workflows.signal(workflow_id, name)
    assert manager.read_step_value(workflow_id, name) is None
    assert app.workflows.list(name) == []


@pytest.mark.parametrize("name", ["\0", "\ud800"], ids=ascii)
async def test_a_queue_that_no_row_can_have_has_no_jobs(database_url: str, name: str) -> None:
    async with procrastinate.App(connector=database_url).open_async() as app:
        manager = app.job_manager
        job_id = await app.configure_task("t").defer_async()
        await manager.finish_job_by_id_async(job_id, procrastinate.jobs.Status.SUCCEEDED, delete_job=False)
        assert await manager.get_stalled_jobs(queue=name, task_name=name) == []
        await manager.delete_old_jobs(0, queue=name)
        assert len(await manager.list_jobs_async()) == 1


@pytest.mark.parametrize("hours", [10**9, 10**400, 1e308, float("inf")], ids=["10**9", "10**400", "1e308", "inf"])
async def test_no_job_is_older_than_all_time(database_url: str, hours: Any) -> None:
    async with procrastinate.App(connector=database_url).open_async() as app:
        manager = app.job_manager
        job_id = await app.configure_task("t").defer_async()
        await manager.finish_job_by_id_async(job_id, procrastinate.jobs.Status.SUCCEEDED, delete_job=False)
        await manager.delete_old_jobs(hours)
        with pytest.warns(DeprecationWarning, match="nb_seconds"):
            assert await manager.get_stalled_jobs(nb_seconds=hours) == []
        assert len(await manager.list_jobs_async()) == 1


def test_an_integer_of_numpy_is_an_id(app: procrastinate.App) -> None:
    numpy = pytest.importorskip("numpy")
    job_id = numpy.int64(app.configure_task("t").defer())
    assert app.job_manager.get_job_status(job_id) == "todo"
    assert [job.id for job in app.job_manager.list_jobs(id=job_id)] == [int(job_id)]


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"queue": ""}, "The queue is empty"),
    ({"queue": "\0"}, "The queue contains a NUL"),
    ({"lock": "x" * 3000}, "The lock has 3000 bytes"),
    ({"priority": 2**40}, "The priority must be"),
    ({"priority": True}, "The priority must be"),
)


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=lambda one: str(one)[:20])
def test_a_retry_by_hand_refuses_what_a_defer_refuses(
    app: procrastinate.App, database_url: str, changes: dict[str, Any], message: str
) -> None:
    with psycopg.connect(libpq_url(database_url)) as connection:
        with pytest.raises(exceptions.InvalidJob, match=message):
            app.job_manager.retry_job_by_id(1, connection=connection, **changes)
        app.configure_task("t", connection=connection).defer()
    assert len(app.job_manager.list_jobs()) == 1


@pytest.mark.parametrize("lock", [uuid.UUID(int=7), 5], ids=str)
async def test_a_retry_by_hand_stores_the_lock_that_a_defer_stores(database_url: str, lock: Any) -> None:
    async with procrastinate.App(connector=database_url).open_async() as app:
        manager = app.job_manager
        deferred, retried = await app.configure_task("t", lock=lock).batch_defer_async({}, {})
        await manager.finish_job_by_id_async(retried, procrastinate.jobs.Status.FAILED, delete_job=False)
        await manager.retry_job_by_id_async(retried, lock=lock)
        first, second = await manager.list_jobs_async()
        assert first.lock == second.lock
        assert {first.id, second.id} == {deferred, retried}
