"""Jobs with limits and unique keys in the tests of users: in memory, and in a transaction that is rolled back."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from procrastinate import App, JobContext, Limit, Rate, RetryStrategy, Unique
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.testing import InMemoryConnector, Jobs
from tests.database import driver_url

ran: list[Any] = []


def by_customer(given: dict[str, Any]) -> str:
    return str(given.get("customer", "a"))


def make_app(connector: Any) -> App:
    """Return an app with a task for each kind of limit."""
    app = App(connector=connector, limits=[Limit("queue", queue="mail", concurrency=1)])
    ran.clear()

    def add(name: str, **options: Any) -> None:
        @app.task(name=name, **options)
        def run(word: Any, customer: str = "a") -> None:
            ran.append(word)

    add("plain")
    add("concurrency", limit=Limit("concurrency", by=by_customer, concurrency=1))
    add("total", limit=Limit("total", by=by_customer, total=1))
    add("fair", limit=Limit("fair", by=by_customer, fair=True))
    add("rate", limit=Limit("rate", by=by_customer, rate=Rate(2, per={"hours": 1})))
    add("total_rate", limit=Limit("total_rate", by=by_customer, total_rate=Rate(3, per={"hours": 1})))
    add("weight", limit=Limit("weight", rate=Rate(3, per={"hours": 1})), weight=2)
    add("unique", unique=Unique(by="key", on_conflict="skip"))
    add("once_an_hour", unique=Unique(by="hour", until={"hours": 1}))
    add("debounced", unique=Unique(by="late", on_conflict="replace", max_wait={"minutes": 5}))
    held_off = Limit("held_off", by=by_customer, concurrency=5)
    retry = RetryStrategy(max_attempts=3, wait=1)

    @app.task(name="hold_off", limit=held_off, pass_context=True, retry=retry)
    def hold_off(context: JobContext, word: Any, customer: str = "a") -> None:
        ran.append(word)
        if context.job.attempts == 0:
            context.hold_off({"hours": 1})
            raise RuntimeError("429")

    @app.task(name="hold_off_async", limit=held_off, pass_context=True, retry=retry)
    async def hold_off_async(context: JobContext, word: Any, customer: str = "a") -> None:
        ran.append(word)
        if context.job.attempts == 0:
            await context.hold_off_async({"hours": 1})
            raise RuntimeError("429")

    return app


@pytest.fixture(params=["memory", "Connection"])
def jobs(request: pytest.FixtureRequest, database_url: str) -> Iterator[Jobs]:
    """Yield the jobs of a sync test, on a connection that is rolled back."""
    if request.param == "memory":
        with Jobs(make_app(InMemoryConnector())) as jobs:
            yield jobs
        return
    engine = sa.create_engine(database_url)
    with engine.connect() as connection, Jobs(make_app(database_url), connection=connection) as jobs:
        yield jobs
        connection.rollback()
    engine.dispose()


@pytest.fixture(params=["memory", "psycopg"])
async def async_jobs(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Jobs]:
    """Yield the jobs of an async test, on a connection that is rolled back."""
    if request.param == "memory":
        with Jobs(make_app(InMemoryConnector())) as jobs:
            yield jobs
        return
    engine = create_async_engine(driver_url(database_url, "psycopg"))
    async with engine.connect() as connection:
        with Jobs(make_app(database_url), connection=connection) as jobs:
            yield jobs
        await connection.rollback()
    await engine.dispose()


@pytest.fixture
def in_memory() -> Iterator[Jobs]:
    """Yield jobs in memory, whose windows follow the clock of the test."""
    with Jobs(make_app(InMemoryConnector())) as jobs:
        jobs.freeze()
        yield jobs


def defer(jobs: Jobs, task: str, word: Any, *, options: dict[str, Any] | None = None, **arguments: Any) -> int:
    return jobs.app.configure_task(task, **(options or {})).defer(word=word, **arguments)


@pytest.mark.parametrize("task", ["concurrency", "total", "fair"])
def test_jobs_in_line_run_one_after_the_other(jobs: Jobs, task: str) -> None:
    for word in range(3):
        defer(jobs, task, word)
    assert len(jobs.run()) == 3
    assert ran == [0, 1, 2]


def test_jobs_of_a_queue_with_a_limit_run(jobs: Jobs) -> None:
    for word in range(3):
        defer(jobs, "plain", word, options={"queue": "mail"})
    jobs.run()
    assert ran == [0, 1, 2]


@pytest.mark.parametrize("task", ["concurrency", "total", "fair"])
def test_the_next_job_in_line_runs_before_ready_jobs_of_a_lower_priority(jobs: Jobs, task: str) -> None:
    for word in range(2):
        defer(jobs, task, word, options={"priority": 5})
    defer(jobs, "plain", "other")
    jobs.run()
    assert ran == [0, 1, "other"]


def test_the_keys_of_a_fair_limit_take_turns(jobs: Jobs) -> None:
    for customer in "aaab":
        defer(jobs, "fair", customer, customer=customer)
    jobs.run()
    assert ran == ["a", "b", "a", "a"]


@pytest.mark.parametrize(("task", "started"), [("rate", 4), ("total_rate", 3), ("weight", 1)])
def test_jobs_above_a_rate_stay_in_line(jobs: Jobs, task: str, started: int) -> None:
    for customer in "aaabbb":
        defer(jobs, task, customer, customer=customer)
    assert len(jobs.run()) == started
    assert len(jobs.deferred(task, {"status": "todo"})) == 6 - started
    assert jobs.run() == []


def test_a_run_until_the_queue_is_empty_ends_with_or_without_the_jobs_above_a_rate(jobs: Jobs) -> None:
    for word in range(3):
        defer(jobs, "rate", word)
    defer(jobs, "plain", "later", options={"schedule_in": {"minutes": 1}})
    jobs.run(until="empty")
    assert ran[:3] == [0, 1, "later"]


def test_a_task_that_is_told_to_wait_holds_the_others_of_its_key_off(jobs: Jobs) -> None:
    jobs.freeze()
    for word, customer in ((0, "a"), (1, "a"), (2, "b")):
        defer(jobs, "hold_off", word, customer=customer)
    jobs.run()
    assert ran == [0, 2]
    jobs.advance(seconds=10)
    assert jobs.run() == []


async def test_an_async_task_holds_its_key_off(async_jobs: Jobs) -> None:
    for word in range(2):
        await async_jobs.app.configure_task("hold_off_async").defer_async(word=word)
    await async_jobs.run_async()
    assert ran == [0]


def test_a_job_of_a_unique_key_is_skipped_until_the_first_has_started(jobs: Jobs) -> None:
    first = defer(jobs, "unique", 0)
    assert defer(jobs, "unique", 1) == first
    jobs.run()
    assert defer(jobs, "unique", 2) != first
    jobs.run()
    assert ran == [0, 2]


def test_a_key_for_a_period_refuses_another_job_though_the_first_has_run(jobs: Jobs) -> None:
    defer(jobs, "once_an_hour", 0)
    jobs.run()
    with pytest.raises(AlreadyEnqueued):
        defer(jobs, "once_an_hour", 1)


def test_a_debounced_job_runs_once_with_the_last_arguments(jobs: Jobs) -> None:
    for word in range(4):
        defer(jobs, "debounced", word, options={"schedule_in": {"seconds": 5}})
    assert jobs.run() == []
    jobs.advance(seconds=6)
    jobs.run()
    assert ran == [3]


# In memory, the clock of the test decides


def test_the_window_of_a_rate_opens_when_the_clock_is_moved(in_memory: Jobs) -> None:
    for word in range(5):
        defer(in_memory, "rate", word)
    in_memory.run()
    in_memory.advance(minutes=59)
    assert in_memory.run() == []
    in_memory.advance(minutes=1)
    in_memory.run()
    assert ran == [0, 1, 2, 3]


def test_the_clock_goes_from_window_to_window_until_the_queue_is_empty(in_memory: Jobs) -> None:
    begin = in_memory.now
    for word in range(5):
        defer(in_memory, "rate", word)
    in_memory.run(until="empty")
    assert ran == [0, 1, 2, 3, 4]
    assert in_memory.now == begin + datetime.timedelta(hours=2)


def test_a_running_clock_goes_from_window_to_window_too() -> None:
    with Jobs(make_app(InMemoryConnector())) as jobs:
        for word in range(5):
            defer(jobs, "rate", word)
        jobs.run(until="empty")
    assert ran == [0, 1, 2, 3, 4]


def test_a_hold_off_ends_when_the_clock_is_moved(in_memory: Jobs) -> None:
    for word in range(2):
        defer(in_memory, "hold_off", word)
    in_memory.run(until=datetime.timedelta(minutes=59))
    assert ran == [0]
    in_memory.advance(minutes=1)
    in_memory.run()
    assert ran == [0, 0, 1]


def test_a_period_of_a_key_ends_when_the_clock_is_moved(in_memory: Jobs) -> None:
    defer(in_memory, "once_an_hour", 0)
    in_memory.run()
    in_memory.advance(hours=1)
    defer(in_memory, "once_an_hour", 1)
    in_memory.run()
    assert ran == [0, 1]


def test_steady_calls_delay_a_debounced_job_no_longer_than_its_longest_wait(in_memory: Jobs) -> None:
    for word in range(10):
        defer(in_memory, "debounced", word, options={"schedule_in": {"minutes": 2}})
        in_memory.run()
        in_memory.advance(minutes=1)
    assert ran == [5]


@pytest.mark.parametrize(
    ("numbers", "limit"), [({"concurrency": 2}, 2), ({"total": 3}, 3), ({"fair": True}, 4)], ids=str
)
def test_a_worker_in_memory_runs_every_job_and_no_more_at_once_than_the_limit(
    numbers: dict[str, Any], limit: int
) -> None:
    app = make_app(InMemoryConnector())
    running, most = [0], [0]

    @app.task(name="counted", limit=Limit("of the worker", by=by_customer, **numbers))
    async def counted(customer: str) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0.005)
        running[0] -= 1

    for _ in range(20):
        app.configure_task("counted").defer(customer="a")
    app.run_worker(wait=False, concurrency=4, install_signal_handlers=False)
    assert {job["status"] for job in app.connector.jobs.values()} == {"succeeded"}
    assert most[0] == limit


async def test_a_waiting_worker_in_memory_starts_the_next_job_when_the_window_opens() -> None:
    app = make_app(InMemoryConnector())
    started: list[float] = []
    done = asyncio.Event()

    @app.task(name="timed", limit=Limit("timed", rate=Rate(2, per=0.5)))
    async def timed() -> None:
        started.append(asyncio.get_running_loop().time())
        if len(started) == 5:
            done.set()

    for _ in range(5):
        await app.configure_task("timed").defer_async()
    worker = asyncio.create_task(app.run_worker_async(fetch_job_polling_interval=60.0, install_signal_handlers=False))
    await asyncio.wait_for(done.wait(), 20)
    worker.cancel()
    await asyncio.wait([worker])
    assert all(later - earlier >= 0.45 for earlier, later in zip(started, started[2:], strict=False))
