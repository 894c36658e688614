"""A real worker in the thread of a fixture, for a test that commits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from procrastinate import App
from procrastinate.exceptions import ConnectorException
from procrastinate.testing import InMemoryConnector, Jobs, WorkerThread
from procrastinate.worker import WorkerOptions


@pytest.fixture(params=["memory", "database"])
def app(request: pytest.FixtureRequest) -> Iterator[App]:
    """Yield an open app."""
    in_memory = request.param == "memory"
    app = App(connector=InMemoryConnector() if in_memory else request.getfixturevalue("database_url"))

    @app.task(name="where")
    def where() -> None:
        threads.append(threading.current_thread())

    @app.task(name="fail")
    async def fail() -> None:
        raise ValueError("no")

    @app.task(name="chain")
    async def chain(left: int) -> None:
        if left:
            await app.configure_task("chain", lock="chain").defer_async(left=left - 1)

    threads.clear()
    with app.open():
        yield app


threads: list[threading.Thread] = []


def test_a_worker_runs_in_a_thread_until_all_jobs_are_done(app: App) -> None:
    with WorkerThread(app, concurrency=3) as worker:
        app.configure_task("chain").defer(left=5)
        app.configure_task("where").defer()
        app.configure_task("where", schedule_in={"days": 1}).defer()
        worker.wait_until_done()
        statuses = [job.status for job in app.job_manager.list_jobs()]
    assert sorted(statuses, key=str) == ["succeeded"] * 7 + ["todo"]
    assert threads[0] is not threading.current_thread()
    assert not [thread for thread in threading.enumerate() if thread.name == "procrastinate-test-worker"]


def test_a_job_that_defers_and_ends_between_two_looks_is_waited_for(app: App) -> None:
    with WorkerThread(app) as worker:
        for _ in range(10):
            app.configure_task("chain").defer(left=5)
            worker.wait_until_done()
            assert {job.status for job in app.job_manager.list_jobs()} == {"succeeded"}


def test_what_a_job_raises_is_raised_once(app: App) -> None:
    with WorkerThread(app) as worker:
        app.configure_task("fail").defer()
        with pytest.raises(ValueError, match="no") as raised:
            worker.wait_until_done()
        assert "fail" in raised.value.__notes__[0]
        worker.wait_until_done()
        app.configure_task("fail").defer()
        worker.wait_until_done(raise_errors=False)


def test_the_jobs_that_are_left_are_named(app: App) -> None:
    with WorkerThread(app, queues=["other"]) as worker:
        app.configure_task("where").defer()
        with pytest.raises(TimeoutError, match=r"where\[1\]\(\) \(todo\)"):
            worker.wait_until_done(timeout=0.1)


async def test_async_tests_wait_too(app: App) -> None:
    with WorkerThread(app) as worker:
        app.configure_task("where").defer()
        await asyncio.gather(worker.wait_until_done_async(), worker.wait_until_done_async())
        assert len(threads) == 1


def test_everything_is_deleted_where_that_is_wanted(app: App) -> None:
    worker = WorkerThread(app)
    worker.deletes_jobs = True
    with worker:
        app.configure_task("where").defer()
        worker.wait_until_done()
    assert app.job_manager.list_jobs() == []
    app.configure_task("where").defer()
    Jobs(app).clear()
    assert app.job_manager.list_jobs() == []


def test_a_worker_that_cannot_start_says_why(empty_database_url: str) -> None:
    with pytest.raises(ConnectorException), WorkerThread(App(connector=empty_database_url)):
        pass


def test_the_middleware_of_the_app_runs_unless_the_test_has_its_own(app: App) -> None:
    seen: list[str] = []

    def named(name: str) -> Any:
        async def around(call_next: Callable[[], Awaitable[Any]], context: Any, worker: Any) -> Any:
            seen.append(name)
            return await call_next()

        return around

    app.worker_defaults = {"worker_middleware": [named("app")]}
    options: list[WorkerOptions] = [{}, {"worker_middleware": [named("test")]}]
    for given in options:
        with WorkerThread(app, **given) as worker:
            app.configure_task("where").defer()
            worker.wait_until_done()
    assert seen == ["app", "test"]
