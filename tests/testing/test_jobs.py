"""Jobs that a test runs in a transaction that it rolls back, on every kind of connection, sync and async."""

from __future__ import annotations

import asyncio
import datetime
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlmodel.ext.asyncio import session as sqlmodel_asyncio

from procrastinate import App, JobContext, RetryStrategy, core
from procrastinate._checks.times import utcnow
from procrastinate.exceptions import ConnectorException, TaskNotFound
from procrastinate.testing import InMemoryConnector, JobFields, Jobs, RunAtDefer
from procrastinate.workflows.graph import Workflow
from tests.database import driver_url

ran: list[Any] = []


def make_app(connector: Any) -> App:
    """Return an app with a task for each tested feature."""
    app = App(connector=connector)
    ran.clear()

    @app.task(name="note", pass_context=True)
    def note(context: JobContext, word: str) -> str:
        ran.append(word)
        return f"{word} by {context.worker_name}"

    @app.task(name="note_async")
    async def note_async(word: str) -> None:
        await asyncio.sleep(0)
        ran.append(word)

    @app.task(name="fail", retry=RetryStrategy(max_attempts=3, wait=60))
    def fail() -> None:
        ran.append("fail")
        raise ValueError("no")

    @app.task(name="follow")
    def follow() -> None:
        ran.append("follow")
        note.configure(priority=5).defer(word="followed")

    @app.task(name="follow_async")
    async def follow_async() -> None:
        ran.append("follow_async")
        await note.configure(priority=5).defer_async(word="followed")

    @app.task(name="slow", timeout=0.05)
    async def slow() -> None:
        await asyncio.sleep(60)

    return app


def defer(app: App, task: str, *, options: dict[str, Any] | None = None, **arguments: Any) -> int:
    """Defer a job of a task by its name."""
    return app.configure_task(task, **(options or {})).defer(**arguments)


@pytest.fixture(params=["memory", "Connection", "Connection of psycopg2", "Session"])
def jobs(request: pytest.FixtureRequest, database_url: str) -> Iterator[Jobs]:
    """Yield the jobs of a sync test, on a connection that is rolled back."""
    if request.param == "memory":
        with Jobs(make_app(InMemoryConnector())) as jobs:
            yield jobs
        return
    url = driver_url(database_url, "psycopg2") if request.param.endswith("psycopg2") else database_url
    engine = sa.create_engine(url)
    opened = Session(engine) if request.param == "Session" else engine.connect()
    with opened as connection, Jobs(make_app(database_url), connection=connection) as jobs:
        yield jobs
        connection.rollback()
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM procrastinate_jobs")) == 0
        assert connection.scalar(sa.text("SELECT count(*) FROM procrastinate_workers")) == 0
    engine.dispose()


@pytest.fixture(params=["memory", "psycopg", "asyncpg", "SQLModel"])
async def async_jobs(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Jobs]:
    """Yield the jobs of an async test, on a session that is rolled back."""
    if request.param == "memory":
        with Jobs(make_app(InMemoryConnector())) as jobs:
            yield jobs
        return
    is_sqlmodel = request.param == "SQLModel"
    engine = create_async_engine(driver_url(database_url, "asyncpg" if is_sqlmodel else request.param))
    session_class = sqlmodel_asyncio.AsyncSession if is_sqlmodel else AsyncSession
    async with session_class(engine) as session:
        with Jobs(make_app(database_url), connection=session) as jobs:
            yield jobs
        await session.rollback()
        assert await session.scalar(sa.text("SELECT count(*) FROM procrastinate_jobs")) == 0
    await engine.dispose()


# Running


def test_sync_and_async_tasks_run_in_order(jobs: Jobs) -> None:
    defer(jobs.app, "note", word="third")
    defer(jobs.app, "note_async", word="first", options={"priority": 2})
    defer(jobs.app, "note", word="second", options={"priority": 1})
    records = jobs.run()
    assert ran == ["first", "second", "third"]
    assert [record.result for record in records] == [None, "second by worker", "third by worker"]
    assert {job.status for job in jobs.deferred()} == {"succeeded"}


@pytest.mark.parametrize("task", ["follow", "follow_async"])
def test_what_a_job_defers_is_run_in_its_place(jobs: Jobs, task: str) -> None:
    defer(jobs.app, task)
    defer(jobs.app, "note", word="last")
    jobs.run()
    assert ran == [task, "followed", "last"]


def test_jobs_of_a_lock_run_in_their_order_and_after_each_other(jobs: Jobs) -> None:
    for word in "abc":
        defer(jobs.app, "note", word=word, options={"lock": "one"})
    defer(jobs.app, "note", word="free")
    assert len(jobs.run()) == 4
    assert [word for word in ran if word != "free"] == ["a", "b", "c"]


def test_jobs_are_filtered_by_queue_and_task_and_limited_in_number(jobs: Jobs) -> None:
    defer(jobs.app, "note", word="mail", options={"queue": "mail"})
    defer(jobs.app, "note_async", word="async")
    defer(jobs.app, "note", word="one")
    defer(jobs.app, "note", word="two")
    jobs.run(queues=["mail"])
    jobs.run(tasks="note_async")
    jobs.run(limit=1)
    assert ran == ["mail", "async", "one"]
    assert [job.task_kwargs for job in jobs.deferred("note", {"status": "todo"})] == [{"word": "two"}]


def test_a_retry_waits_until_the_clock_is_moved(jobs: Jobs) -> None:
    jobs.freeze()
    defer(jobs.app, "fail")
    (first,) = jobs.run()
    assert first.is_retried
    assert isinstance(first.exception, ValueError)
    jobs.advance(seconds=59)
    assert jobs.run() == []
    jobs.advance(seconds=1)
    assert [record.is_retried for record in jobs.run()] == [True]
    jobs.assert_deferred("fail", {"attempts": 2, "scheduled_in": datetime.timedelta(seconds=60)})


def test_what_fails_for_good_is_raised_after_it_was_recorded(jobs: Jobs) -> None:
    defer(jobs.app, "fail")
    defer(jobs.app, "note", word="behind", options={"schedule_in": {"minutes": 4}})
    with pytest.raises(ValueError, match="no") as raised:
        jobs.run(until="empty")
    assert "fail" in raised.value.__notes__[0]
    assert ran == ["fail"] * 4
    assert jobs.assert_deferred("fail").status == "failed"
    assert jobs.assert_deferred("note").status == "todo"


def test_what_fails_is_collected(jobs: Jobs) -> None:
    defer(jobs.app, "fail")
    defer(jobs.app, "unknown")
    statuses = [record.status.value for record in jobs.run(until="empty", raise_errors=False)]
    assert statuses == ["todo", "failed", "todo", "todo", "failed"]
    defer(jobs.app, "unknown")
    with pytest.raises(TaskNotFound):
        jobs.run()


def test_the_clock_goes_from_job_to_job_and_to_the_end(jobs: Jobs) -> None:
    start = jobs.freeze()
    for hours in (3, 1, 2):
        defer(jobs.app, "note", word=hours, options={"schedule_in": {"hours": hours}})
    jobs.run(until=start + datetime.timedelta(hours=2, minutes=30))
    assert ran == [1, 2]
    assert jobs.now == utcnow() == start + datetime.timedelta(hours=2, minutes=30)
    jobs.run(until=datetime.timedelta(minutes=30))
    assert ran == [1, 2, 3]


def test_a_timeout_ends_a_task(jobs: Jobs) -> None:
    defer(jobs.app, "slow")
    with pytest.raises(TimeoutError):
        jobs.run()


def test_jobs_without_end_are_noticed(jobs: Jobs) -> None:
    @jobs.app.task(name="endless")
    def endless() -> None:
        defer(jobs.app, "endless")

    defer(jobs.app, "endless")
    with mock.patch("procrastinate.testing.job_runner.ENDLESS", 20), pytest.raises(RuntimeError, match="no end"):
        jobs.run()


def test_a_queueing_lock_is_taken_by_a_waiting_job_only(jobs: Jobs) -> None:
    defer(jobs.app, "note", word="one", options={"queueing_lock": "q"})
    assert defer(jobs.app, "note", word="two", options={"queueing_lock": "q", "on_conflict": "skip"})
    jobs.run()
    defer(jobs.app, "note", word="three", options={"queueing_lock": "q"})
    jobs.run()
    assert ran == ["one", "three"]


async def test_jobs_run_in_an_async_test(async_jobs: Jobs) -> None:
    await async_jobs.app.configure_task("note_async").defer_async(word="async")
    await async_jobs.app.configure_task("follow").defer_async()
    await async_jobs.app.configure_task("fail").defer_async()
    await async_jobs.assert_deferred_async("note_async", word="async")
    await async_jobs.assert_not_deferred_async("note")
    await async_jobs.run_async(until="empty", raise_errors=False)
    assert ran == ["async", "follow", "followed", *["fail"] * 4]
    assert [job.status for job in await async_jobs.deferred_async("fail")] == ["failed"]


# Immediate mode


def test_jobs_run_when_they_are_deferred(jobs: Jobs) -> None:
    with jobs.run_at_defer():
        defer(jobs.app, "follow")
        assert ran == ["follow", "followed"]
        defer(jobs.app, "note_async", word="async")
        defer(jobs.app, "note", word="later", options={"schedule_in": {"hours": 1}})
        jobs.app.configure_task("note").batch_defer({"word": "b"}, {"word": "c"})
    defer(jobs.app, "note", word="after")
    assert ran == ["follow", "followed", "async", "b", "c"]


def test_immediate_mode_raises_or_records(jobs: Jobs) -> None:
    with jobs.run_at_defer(), pytest.raises(TaskNotFound):
        defer(jobs.app, "unknown")
    with jobs.run_at_defer(raise_errors=False):
        defer(jobs.app, "unknown")
    assert [job.status for job in jobs.deferred("unknown")] == ["failed", "failed"]


async def test_jobs_run_when_they_are_deferred_in_an_async_test(async_jobs: Jobs) -> None:
    with async_jobs.run_at_defer():
        await async_jobs.app.configure_task("follow_async").defer_async()
        await async_jobs.app.configure_task("follow").defer_async()
    assert ran == ["follow_async", "followed", "follow", "followed"]


def workflow_of_a_signal(app: App, name: str) -> Workflow:
    workflow, note = app.workflow(name), app.tasks["note"]
    workflow.add_signal("approved")
    workflow.add(note, word=f"{name} is approved", after=["approved"])
    workflow.on_end(note, word=f"{name} has ended")
    return workflow


def test_a_signal_or_a_cancel_of_a_workflow_runs_what_follows(jobs: Jobs) -> None:
    with jobs.run_at_defer():
        first, second = (workflow_of_a_signal(jobs.app, name).defer() for name in ("first", "second"))
        assert ran == []
        jobs.app.workflows.signal(first, "approved")
        assert ran == ["first is approved", "first has ended"]
        jobs.app.workflows.cancel(second)
        assert ran[2:] == ["second has ended"]


async def test_a_signal_or_a_cancel_of_a_workflow_runs_what_follows_in_an_async_test(async_jobs: Jobs) -> None:
    workflows = async_jobs.app.workflows
    with async_jobs.run_at_defer():
        first, second = [await workflow_of_a_signal(async_jobs.app, name).defer_async() for name in ("first", "second")]
        await workflows.signal_async(first, "approved")
        assert ran == ["first is approved", "first has ended"]
        await workflows.cancel_async(second)
        assert ran[2:] == ["second has ended"]


def test_immediate_mode_runs_on_the_connection_of_the_defer(engine: sa.Engine, database_url: str) -> None:
    app = make_app(database_url)
    with RunAtDefer(app), engine.connect() as connection:
        app.configure_task("follow", connection=connection).defer()
        assert ran == ["follow", "followed"]
        assert connection.scalar(sa.text("SELECT count(*) FROM procrastinate_jobs")) == 2
        connection.rollback()
        assert connection.scalar(sa.text("SELECT count(*) FROM procrastinate_jobs")) == 0


class _NotYetThere(InMemoryConnector):
    """A connector whose database refuses to register workers until it is there."""

    is_there = False

    def run(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation is core.register_worker and not self.is_there:
            raise ConnectorException("not yet there")
        return super().run(operation, *args, **kwargs)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_immediate_mode_goes_on_after_a_run_that_could_not_begin(is_async: bool) -> None:
    """The failed run is over, so the next defer is none of a job's own."""
    connector = _NotYetThere()
    app = make_app(connector)

    async def note(word: str) -> None:
        deferrer = app.configure_task("note")
        await deferrer.defer_async(word=word) if is_async else deferrer.defer(word=word)

    with RunAtDefer(app) as mode:
        with pytest.raises(ConnectorException):
            await note("first")
        assert app.job_manager.defer_hook is mode
        connector.is_there = True
        await note("second")
    assert ran == ["first", "second"]


# Reading jobs


def test_a_job_is_found_by_some_of_its_arguments_and_fields(jobs: Jobs) -> None:
    defer(jobs.app, "unknown", to="ann", tags=("a", "b"), options={"queue": "mail", "lock": "l", "priority": -1})
    expected: JobFields = {"queue": "mail", "lock": "l", "priority": -1, "queueing_lock": None}
    job = jobs.assert_deferred("unknown", expected, to="ann")
    assert job.task_kwargs["tags"] == ["a", "b"]
    jobs.assert_deferred("unknown", tags=("a", "b"), to=mock.ANY)
    jobs.assert_not_deferred("unknown", {"scheduled_in": datetime.timedelta(hours=1)})
    assert jobs.deferred(None, {"queue": "other"}) == []


def test_the_message_shows_the_nearest_job_first(jobs: Jobs) -> None:
    defer(jobs.app, "unknown", to="bob", copies=1)
    defer(jobs.app, "unknown", to="ann", copies=1)
    defer(jobs.app, "note", word="other")
    with pytest.raises(AssertionError) as raised:
        jobs.assert_deferred("unknown", {"queue": "mail"}, to="ann", cc="eve")
    first, second = (job.id for job in reversed(jobs.deferred("unknown")))
    assert str(raised.value) == "\n".join(
        [
            "No such job was deferred.",
            "",
            "Expected: unknown(to='ann', cc='eve'), queue='mail'",
            "",
            "Deferred, and different:",
            f"  unknown[{first}](to='ann', copies=1)",
            "    cc: <missing>, expected 'eve'",
            "    queue: 'default', expected 'mail'",
            f"  unknown[{second}](to='bob', copies=1)",
            "    to: 'bob', expected 'ann'",
            "    cc: <missing>, expected 'eve'",
            "    queue: 'default', expected 'mail'",
            "",
            "Jobs of other tasks: note (1)",
        ]
    )


def test_the_message_shows_what_was_not_expected(jobs: Jobs) -> None:
    with pytest.raises(AssertionError, match="No job was deferred at all"):
        jobs.assert_deferred("unknown")
    job_id = defer(jobs.app, "unknown", to="bob")
    with pytest.raises(AssertionError, match=rf"unknown\[{job_id}\]\(to='bob'\) \(todo\)"):
        jobs.assert_not_deferred()


def test_a_field_that_jobs_do_not_have_is_refused(jobs: Jobs) -> None:
    with pytest.raises(TypeError, match="no field 'que'"):
        jobs.assert_deferred("unknown", {"que": "mail"})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(TypeError, match="task or its name"):
        jobs.assert_deferred(print)  # type: ignore[arg-type]


# Restored state


def test_the_clock_and_the_connector_are_put_back(database_url: str) -> None:
    app = make_app(database_url)
    connector = app.connector
    with Jobs(app, connection=mock.Mock()) as jobs:
        jobs.advance(days=400)
        assert app.connector is not connector
        with pytest.raises(ValueError, match="turn the clock back"):
            jobs.advance(days=-1)
    assert app.connector is connector
    assert abs(utcnow() - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(hours=1)
    with pytest.raises(RuntimeError, match="with block"):
        jobs.run()


def test_which_app_is_a_question_outside_of_django() -> None:
    with mock.patch.dict("sys.modules"):
        sys.modules.pop("django", None)
        with pytest.raises(ValueError, match="Which app"):
            Jobs()


async def test_a_sync_call_on_the_async_connection_of_a_test_names_both_ways_out(database_url: str) -> None:
    """A sync endpoint of FastAPI runs in a thread, and the test has passed no ``connection=`` to it."""
    names_both = pytest.raises(TypeError, match=r"await the method .* or give the test a sync connection")
    engine = create_async_engine(database_url)
    async with engine.connect() as connection:
        with Jobs(make_app(database_url), connection=connection) as jobs:
            with names_both:
                defer(jobs.app, "note", word="a")
            with names_both:
                await asyncio.to_thread(defer, jobs.app, "note", word="a")
    await engine.dispose()


def test_an_iterator_of_middleware_counts_for_each_run() -> None:
    async def around(call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: Any) -> Any:
        ran.append("around")
        return await call_next()

    app = make_app(InMemoryConnector())
    options: Any = {"worker_middleware": iter([around])}
    with Jobs(app, worker_options=options) as jobs:
        for word in "ab":
            defer(app, "note", word=word)
            jobs.run()
        with jobs.run_at_defer():
            defer(app, "note", word="c")
    assert ran == ["around", "a", "around", "b", "around", "c"]
