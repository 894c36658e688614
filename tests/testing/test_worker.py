"""Workers that run jobs in memory."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Callable

import pytest

from procrastinate import core
from procrastinate.app import App
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.job_context import JobContext
from procrastinate.jobs import Status
from procrastinate.testing import InMemoryConnector
from procrastinate.worker import Worker

DEADLINE = 10


@pytest.fixture
def connector() -> InMemoryConnector:
    return InMemoryConnector()


@pytest.fixture
def app(connector: InMemoryConnector) -> App:
    return App(connector=connector)


def run_worker(app: App, **options: object) -> None:
    """Run a worker until nothing is left to do."""
    app.run_worker(wait=False, install_signal_handlers=False, **options)  # type: ignore[arg-type]


def statuses(connector: InMemoryConnector) -> list[str]:
    """Return the status of each job."""
    return [job["status"] for job in connector.jobs.values()]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(0.01)


def test_sync_and_async_tasks_run(app: App, connector: InMemoryConnector) -> None:
    sums = []

    @app.task
    def add(a: int, b: int) -> None:
        sums.append(a + b)

    @app.task
    async def add_async(a: int, b: int) -> None:
        sums.append(a + b)

    add.defer(a=1, b=2)
    add_async.defer(a=3, b=4)
    run_worker(app)
    assert sums == [3, 7]
    assert statuses(connector) == ["succeeded", "succeeded"]
    assert connector.workers == {}
    assert connector.states == ["open_async", "closed_async"]


def test_a_task_defers_another_which_runs_too(app: App, connector: InMemoryConnector) -> None:
    @app.task
    def last() -> None: ...

    @app.task
    def sync() -> None:
        last.defer()

    @app.task
    async def first() -> None:
        await sync.defer_async()

    first.defer()
    run_worker(app)
    assert statuses(connector) == ["succeeded"] * 3


def test_jobs_run_by_priority_within_a_lock_and_without(app: App, connector: InMemoryConnector) -> None:
    order: dict[str | None, list[str]] = {"l": [], None: []}

    @app.task(pass_context=True)
    def note(context: JobContext, name: str) -> None:
        order[context.job.lock].append(name)

    for name, priority, lock in (("a", 0, "l"), ("b", 2, "l"), ("c", 0, None), ("d", 3, "l"), ("e", 1, None)):
        note.configure(priority=priority, lock=lock).defer(name=name)
    run_worker(app)
    assert order == {"l": ["d", "b", "a"], None: ["e", "c"]}


def test_a_retried_job_gives_way_to_the_one_that_took_its_queueing_lock(app: App, connector: InMemoryConnector) -> None:
    runs = []

    @app.task(retry=1, queueing_lock="q", pass_context=True)
    def fail(context: JobContext) -> None:
        runs.append((context.job.id, context.job.attempts))
        if runs == [(1, 0)]:
            fail.defer()
        raise ValueError("as always")

    fail.defer()
    with pytest.raises(AlreadyEnqueued):
        fail.defer()
    run_worker(app)
    assert sorted(runs) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert {job["queueing_lock"] for job in connector.jobs.values()} == {None, "q"}
    assert statuses(connector) == ["failed", "failed"]


def test_finished_jobs_are_deleted_on_request(app: App, connector: InMemoryConnector) -> None:
    @app.task
    def succeed() -> None: ...

    succeed.defer()
    run_worker(app, delete_jobs="successful")
    assert (connector.jobs, connector.events) == ({}, {})


def test_a_replaced_connector_is_where_jobs_go_and_run(app: App, connector: InMemoryConnector) -> None:
    production = App(connector="postgresql://user@/none?host=/nowhere")
    ran = []

    @production.task
    def task() -> None:
        ran.append(True)

    with production.replace_connector(connector) as replaced:
        task.defer()
        run_worker(replaced)
    assert ran == [True]
    assert statuses(connector) == ["succeeded"]


async def test_a_waiting_worker_hears_of_jobs_and_of_requests_to_abort(app: App, connector: InMemoryConnector) -> None:
    started = asyncio.Event()

    @app.task
    async def sleep() -> None:
        started.set()
        await asyncio.Event().wait()

    worker = Worker(app, fetch_job_polling_interval=600, abort_job_polling_interval=600, install_signal_handlers=False)
    running = asyncio.create_task(worker.run())
    try:
        await until(lambda: bool(connector.notify_channels))
        job_id = await asyncio.to_thread(sleep.defer)
        await asyncio.wait_for(started.wait(), DEADLINE)
        assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
        await until(lambda: connector.jobs[job_id]["status"] == "aborted")
    finally:
        worker.stop()
        await asyncio.wait_for(running, DEADLINE)


async def test_a_waiting_worker_wakes_when_a_job_falls_due(app: App, connector: InMemoryConnector) -> None:
    ran = asyncio.Event()

    @app.task
    async def task() -> None:
        ran.set()

    worker = Worker(app, fetch_job_polling_interval=600, install_signal_handlers=False)
    running = asyncio.create_task(worker.run())
    try:
        await task.configure(schedule_in={"milliseconds": 50}).defer_async()
        await asyncio.wait_for(ran.wait(), DEADLINE)
    finally:
        worker.stop()
        await asyncio.wait_for(running, DEADLINE)


def test_a_worker_takes_over_from_one_that_is_gone(app: App, connector: InMemoryConnector) -> None:
    ran = []

    @app.task
    def task() -> None:
        ran.append(True)

    async def fetch_and_vanish() -> None:
        worker_id = await app.job_manager.register_worker(core.WorkerTerms(stalled_timeout=0.1))
        assert await app.job_manager.fetch_job(None, worker_id) is not None

    task.defer()
    asyncio.run(fetch_and_vanish())
    silence = datetime.timedelta(minutes=5)
    connector.clock = lambda: datetime.datetime.now(tz=datetime.UTC) + silence

    async def run_until_done() -> None:
        worker = Worker(app, install_signal_handlers=False, update_heartbeat_interval=0.02, stalled_worker_timeout=0.1)
        running = asyncio.create_task(worker.run())
        await until(lambda: statuses(connector) == ["succeeded"])
        worker.stop()
        await running

    asyncio.run(run_until_done())
    assert ran == [True]
    assert [event["type"] for event in connector.events[1]] == [
        "deferred",
        "started",
        "deferred_for_retry",
        "started",
        "succeeded",
    ]


def test_old_jobs_are_removed_by_the_builtin_task(app: App, connector: InMemoryConnector) -> None:
    @app.task
    def task() -> None: ...

    task.defer()
    run_worker(app)
    connector.clock = lambda: datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(hours=2)
    app.configure_task("builtin:procrastinate.builtin_tasks.remove_old_jobs").defer(max_hours=1)
    run_worker(app)
    assert [job["task_name"].rpartition(".")[2] for job in connector.jobs.values()] == ["remove_old_jobs"]


def test_nothing_goes_wrong_in_silence(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """No service of the worker logs an error with this connector."""

    @app.task
    def task() -> None: ...

    task.defer()
    with caplog.at_level(logging.INFO):
        run_worker(app)
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []
    assert app.job_manager.get_job_status(1) is Status.SUCCEEDED
