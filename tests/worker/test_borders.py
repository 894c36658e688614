"""SystemExit and its like at each border between the worker and the code of the program."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest

from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.jobs import Job
from procrastinate.worker.run.slots import Slots
from tests.database import libpq_url
from tests.worker.running import APPLICATION, Queue, Workers, until


class Exits:
    """Exits when it is shown."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception

    def __str__(self) -> str:
        raise self.exception

    __repr__ = __str__


class ExitingError(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class ExitingStrategy(BaseRetryStrategy):
    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        raise KeyboardInterrupt


class ExitingHandler(logging.Handler):
    """A log handler that exits at one action."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self.action = action

    def emit(self, record: logging.LogRecord) -> None:
        if vars(record).get("action") == self.action:
            sys.exit(1)


def raise_exiting_error() -> None:
    raise ExitingError


def return_what_exits() -> Any:
    return Exits(SystemExit(1))


def return_what_interrupts() -> Any:
    return Exits(KeyboardInterrupt())


def return_what_seems_cancelled() -> Any:
    return Exits(asyncio.CancelledError())


class RefusingFactory:
    """A factory of asyncio tasks that raises for the first job."""

    def __init__(self) -> None:
        self.refused = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        if getattr(coroutine, "__qualname__", "") == Slots._execute.__qualname__ and not self.refused:
            self.refused += 1
            raise SystemExit(1)
        return asyncio.Task(coroutine, loop=loop, **options)


POISONS: list[tuple[Callable[[], Any], dict[str, Any]]] = [
    (raise_exiting_error, {}),
    (raise_exiting_error, {"retry": ExitingStrategy()}),
    (return_what_exits, {"store_result": True}),
    (return_what_exits, {}),
    (return_what_interrupts, {}),
    (return_what_seems_cancelled, {"store_result": True}),
]


@pytest.mark.parametrize(("poison", "options"), POISONS)
async def test_code_of_the_program_that_exits_ends_its_job_alone(
    app: App, workers: Workers, queue: Queue, poison: Callable[[], Any], options: dict[str, Any]
) -> None:
    bad = await app.task(name="bad", **options)(poison).defer_async()
    good = [await app.task(name=f"good{number}")(lambda: None).defer_async() for number in range(3)]
    await workers.run(concurrency=2)
    assert queue.status(bad) in (Status.FAILED, Status.SUCCEEDED)
    assert {queue.status(job_id) for job_id in good} == {Status.SUCCEEDED}


@pytest.mark.parametrize(
    "action", ["loaded_job_info", "start_job", "job_success", "finish_task", "start_worker", "stopping_worker"]
)
async def test_a_log_handler_that_exits_ends_no_job_and_no_worker(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture, action: str
) -> None:
    caplog.set_level(logging.DEBUG, "procrastinate")
    handler = ExitingHandler(action)
    logging.getLogger("procrastinate.worker").addHandler(handler)
    try:
        ids = [await app.task(name=f"good{number}")(lambda: None).defer_async() for number in range(3)]
        await workers.run(concurrency=2)
    finally:
        logging.getLogger("procrastinate.worker").removeHandler(handler)
    assert {queue.status(job_id) for job_id in ids} == {Status.SUCCEEDED}


async def test_a_coroutine_that_a_coroutine_returns_is_awaited(app: App, workers: Workers, queue: Queue) -> None:
    ran: list[int] = []

    async def inner() -> None:
        ran.append(1)

    async def outer() -> Any:
        return inner()

    job_id = await app.task(name="nested")(lambda: outer()).defer_async()
    await workers.run()
    assert (queue.status(job_id), ran) == (Status.SUCCEEDED, [1])


async def test_a_job_whose_asyncio_task_cannot_be_made_is_tried_again(app: App, queue: Queue, workers: Workers) -> None:
    factory = RefusingFactory()
    asyncio.get_running_loop().set_task_factory(factory)
    task = app.task(name="task")(_do_nothing)
    first, second = await task.batch_defer_async({}, {})
    workers.start()
    await queue.succeeded(second)
    await queue.reaches(first, Status.TODO)
    assert factory.refused == 1
    row = queue.row(first)
    assert (row["attempts"], row["worker_id"]) == (1, None)
    assert row["scheduled_at"] is not None
    assert [error.exception_class for error in app.job_manager.get_result(first).errors] == ["builtins.SystemExit"]


async def _do_nothing() -> None: ...


class Parameters:
    """Gives the parameters of each new connection, or exits."""

    def __init__(self, database_url: str) -> None:
        self.exits = False
        self.exited = 0
        self._given = {"conninfo": libpq_url(database_url), "application_name": APPLICATION}

    def __call__(self) -> dict[str, Any]:
        if self.exits:
            self.exited += 1
            sys.exit(1)
        return self._given


async def test_a_function_of_connection_parameters_that_exits_ends_no_heartbeat(
    queue: Queue, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    parameters = Parameters(database_url)
    app = App(connector=WorkerConnector(parameters))
    workers = Workers(app, database_url)
    task = app.task(name="task")(lambda: None)
    heartbeat = "SELECT max(last_heartbeat) FROM procrastinate_workers"
    async with app.open_async():
        await workers.listening(queue, update_heartbeat_interval=0.05)
        parameters.exits = True
        queue.kill_backends()
        with caplog.at_level(logging.WARNING):
            await until(lambda: parameters.exited >= 5 and "The heartbeat could not be written: 1" in caplog.text)
        parameters.exits = False
        since = queue.sql(heartbeat)
        await until(lambda: queue.sql(heartbeat) > since)
        await queue.succeeded(await task.defer_async())
        await workers.end_of_test()
