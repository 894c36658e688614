"""``Unique``: what it takes, which key a job gets, and what tasks do with it. Jobs run in memory."""

from __future__ import annotations

import datetime
import logging
from typing import Any

import pytest

from procrastinate import App, Unique, by_arguments, exceptions
from procrastinate.periodic import PeriodicDeferrer
from procrastinate.testing import InMemoryConnector
from procrastinate.workflows.graph import Workflow


@pytest.fixture
def connector() -> InMemoryConnector:
    return InMemoryConnector()


@pytest.fixture
def app(connector: InMemoryConnector) -> App:
    return App(connector=connector)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"until": "tomorrow"}, "until='tomorrow' of Unique: write 'start', 'end', or a time"),
        ({"until": {"hours": 0}}, "until=.*longer than nothing"),
        ({"until": {"lightyears": 1}}, "until=.*lightyears"),
        ({"until": {"days": 1e9}}, "until="),
        ({"on_conflict": "ignore"}, "on_conflict='ignore' of Unique: write 'raise', 'skip' or 'replace'"),
        ({"max_wait": {"minutes": 5}}, "give on_conflict='replace', or leave out max_wait"),
        ({"on_conflict": "replace", "max_wait": 5}, "max_wait=5 of Unique: write a time such as"),
        ({"by": 5}, "by=5 of Unique: give a text, a function of the arguments, or by_arguments"),
        ({"by": "\0"}, "by of Unique contains"),
    ],
)
def test_a_wrong_parameter_is_named_with_the_way_out(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError), match=message):
        Unique(**options)


def test_times_are_timedeltas_whatever_was_given() -> None:
    unique = Unique(until={"hours": 1}, on_conflict="replace", max_wait={"minutes": 5})
    assert unique == Unique(
        until=datetime.timedelta(hours=1), on_conflict="replace", max_wait=datetime.timedelta(minutes=5)
    )
    assert hash(unique)


@pytest.mark.parametrize(
    ("by", "same", "other"),
    [
        (None, {"a": 1, "b": 1}, {"a": 1, "b": 2}),
        (by_arguments("a"), {"a": 1, "b": 2}, {"a": 2, "b": 1}),
        (lambda kwargs: f"key {kwargs['a']}", {"a": 1, "b": 2}, {"a": 2, "b": 1}),
    ],
)
def test_a_key_is_made_of_the_arguments(app: App, by: Any, same: dict[str, int], other: dict[str, int]) -> None:
    @app.task(unique=Unique(by=by))
    def task(a: int, b: int) -> None: ...

    first = task.defer(a=1, b=1)
    with pytest.raises(
        exceptions.AlreadyEnqueued, match=f"^Job {first} holds the unique key .* until it starts: "
    ) as info:
        task.defer(**same)
    assert info.value.job_id == first
    assert task.defer(**other) > first


def test_a_job_without_a_key_is_not_unique(app: App) -> None:
    task = app.task(unique=Unique(by=lambda kwargs: None))(_nothing)
    assert task.defer() != task.defer()


def test_tasks_share_a_key_that_is_a_text(app: App) -> None:
    first = app.task(name="one", unique=Unique(by="k"))(_nothing)
    second = app.task(name="two", unique=Unique(by="k", on_conflict="skip"))(_nothing)
    assert first.defer() == second.defer()


def test_a_key_that_cannot_be_made_or_stored_names_the_task(app: App) -> None:
    task = app.task(name="t", unique=Unique(by=lambda kwargs: kwargs["missing"]))(_nothing)
    with pytest.raises(exceptions.InvalidJob, match="unique key of task t asks for the argument 'missing'"):
        task.defer()
    with pytest.raises(TypeError, match="unique key of task u needs the argument 'missing', which it does not take"):
        app.task(name="u", unique=Unique(by=by_arguments("missing")))(_nothing)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"unique": True}, TypeError, "write unique=Unique"),
        ({"unique": Unique(), "queueing_lock": "q"}, ValueError, "Give unique or queueing_lock, not both"),
        ({"unique": Unique(), "on_conflict": "skip"}, ValueError, r"write Unique\(on_conflict='skip'\)"),
    ],
)
def test_unique_with_a_queueing_lock_is_refused(
    app: App, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        app.task(**options)(_nothing)
    with pytest.raises(error, match=message):
        app.task(name="plain")(_nothing).configure(**options)


def test_configure_takes_the_place_of_what_the_task_says(app: App) -> None:
    locked = app.task(name="locked", queueing_lock="q", on_conflict="skip")(_nothing)
    first = locked.defer()
    assert locked.configure(unique=Unique(on_conflict="skip")).defer() != first
    unique = app.task(name="unique", unique=Unique())(_nothing)
    unique.defer()
    assert unique.configure(queueing_lock="q", on_conflict="skip").defer() == first
    with pytest.raises(ValueError, match="on_conflict='skip' belongs to queueing_lock"):
        unique.configure(on_conflict="skip")


def test_a_batch_that_skips_logs_the_jobs_it_leads_to(app: App, caplog: pytest.LogCaptureFixture) -> None:
    task = app.task(name="t", unique=Unique(by="k", on_conflict="skip"))(_nothing)
    with caplog.at_level(logging.INFO, logger="procrastinate"):
        assert task.batch_defer({}, {}) == [1, 1]
    assert task.batch_defer() == []
    assert "Deferred t[1](...), t[1](...)" in caplog.text


async def test_async_defers_keep_to_the_key(app: App) -> None:
    task = app.task(name="t", unique=Unique(by="k"))(_nothing)
    assert await task.defer_async() == 1
    with pytest.raises(exceptions.AlreadyEnqueued):
        await task.defer_async()
    with pytest.raises(exceptions.AlreadyEnqueued):
        await task.batch_defer_async({})
    assert await task.configure(unique=Unique(by="k", on_conflict="skip")).batch_defer_async({}, {}) == [1, 1]


def test_a_step_of_a_workflow_is_not_unique(app: App) -> None:
    task = app.task(name="t", unique=Unique())(_nothing)
    workflow: Workflow = app.workflow("w")
    with pytest.raises(exceptions.InvalidWorkflow, match="task t is unique"):
        workflow.add(task)


async def test_ticks_skip_while_the_job_of_an_earlier_one_holds_the_key(
    app: App, connector: InMemoryConnector, caplog: pytest.LogCaptureFixture
) -> None:
    @app.periodic(cron="* * * * *")
    @app.task(name="t", unique=Unique(by="k", until="end"))
    def task(timestamp: int) -> None: ...

    (periodic_task,) = app.periodic_registry.periodic_tasks.values()
    deferrer = PeriodicDeferrer(app.periodic_registry)
    with caplog.at_level(logging.DEBUG, logger="procrastinate"):
        await deferrer.defer_jobs([(periodic_task, 60), (periodic_task, 120)])
    assert "Skipping periodic task t: Job 1 holds the unique key k until it has ended" in caplog.text
    assert [job["args"] for job in connector.jobs.values()] == [{"timestamp": 60}]
    app.job_manager.cancel_job_by_id(1)
    await deferrer.defer_jobs([(periodic_task, 180)])
    assert [job["args"] for job in connector.jobs.values()] == [{"timestamp": 60}, {"timestamp": 180}]


def test_a_debounced_job_runs_with_the_last_arguments_when_its_longest_wait_is_over(
    app: App, connector: InMemoryConnector
) -> None:
    """A call comes every ten seconds and asks for a run in thirty."""
    runs = []
    start = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)

    @app.task(unique=Unique(by="k", on_conflict="replace", max_wait={"minutes": 1}))
    def task(number: int) -> None:
        runs.append(number)

    def run_at(seconds: int) -> datetime.datetime:
        now = start + datetime.timedelta(seconds=seconds)
        connector.clock = lambda: now
        app.run_worker(wait=False)
        return now

    for number in range(10):
        now = run_at(number * 10)
        task.configure(schedule_at=now + datetime.timedelta(seconds=30)).defer(number=number)
    assert runs == [5]
    run_at(119)
    assert runs == [5]
    run_at(120)
    assert runs == [5, 9]


def _nothing() -> None: ...


@pytest.mark.parametrize("key", ["a\x00", "\ud800", "k" * 5000])
def test_a_text_that_can_be_no_key_is_neither_looked_up_nor_freed(app: App, key: str) -> None:
    with app.open():
        for call in (app.job_manager.find_unique_key, app.job_manager.free_unique_key):
            with pytest.raises(exceptions.InvalidJob, match="unique key"):
                call(key)
