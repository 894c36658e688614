"""A poisonous job fails alone."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest

from procrastinate.app import App
from procrastinate.core import Status
from tests.worker.running import Queue, Workers


def recurse() -> None:
    """Recurse without an end."""
    recurse()


def interrupt() -> None:
    """Raise `KeyboardInterrupt`, like Ctrl-C."""
    raise KeyboardInterrupt


def raise_cancelled() -> None:
    """Raise `CancelledError` although the task was not cancelled."""
    raise asyncio.CancelledError


def raise_group() -> None:
    """Raise an exception group, like a task group."""
    raise BaseExceptionGroup("several", [SystemExit(1), ValueError()])


def stop_iteration() -> None:
    """Raise `StopIteration`, which coroutines and futures do not propagate."""
    raise StopIteration


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize(
    "poison", [sys.exit, interrupt, recurse, raise_cancelled, raise_group, stop_iteration], ids=lambda one: one.__name__
)
async def test_whatever_a_task_raises_fails_its_job_alone(
    app: App, workers: Workers, queue: Queue, poison: Any, is_async: bool
) -> None:
    async def async_task() -> None:
        poison()

    task = app.task(name="poison")(async_task if is_async else lambda: poison())
    good = app.task(name="good")(lambda: None)
    ids = [await one.defer_async() for one in (good, task, good, task, good)]
    await workers.run(concurrency=2)
    succeeded, failed = Status.SUCCEEDED, Status.FAILED
    assert [queue.status(job_id) for job_id in ids] == [succeeded, failed, succeeded, failed, succeeded]


async def test_a_job_of_an_unknown_task_fails(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await app.configure_task("elsewhere.task").defer_async()
    after = await app.task(name="good")(lambda: None).defer_async()
    await workers.run(unknown_task_timeout=0)
    assert (queue.status(job_id), queue.status(after)) == (Status.FAILED, Status.SUCCEEDED)
    (record,) = (record for record in caplog.records if vars(record)["action"] == "task_not_found")
    assert "elsewhere.task" in record.getMessage()


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("arguments", [{}, {"a": 1, "b": 2}, {"self": 1}])
async def test_arguments_that_do_not_fit_fail_the_job(
    app: App, workers: Workers, queue: Queue, arguments: dict[str, int], is_async: bool
) -> None:
    async def async_task(a: int) -> None: ...

    def sync_task(a: int) -> None: ...

    task: Any = app.task(name="task", retry=False)(async_task if is_async else sync_task)
    app.check_arguments = False  # as in a program that knows only the task's name
    job_id = await task.configure(task_kwargs=arguments).defer_async()
    await workers.run()
    assert queue.status(job_id) is Status.FAILED


@pytest.mark.parametrize(
    "args", ["[1, 2]", '"text"', "3", "null", "[" * 3000 + "]" * 3000], ids=["list", "text", "number", "null", "deep"]
)
@pytest.mark.parametrize("retry", [True, False])
async def test_arguments_that_plain_sql_has_written_wrongly_fail_the_job(
    app: App, workers: Workers, queue: Queue, args: str, retry: bool
) -> None:
    app.task(name="task", retry=retry)(lambda **kwargs: None)
    before = await app.configure_task("task").defer_async()
    insert = "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('q', 'task', cast(:args AS jsonb))"
    job_id = queue.sql(f"{insert} RETURNING id", args=args)
    after = await app.configure_task("task").defer_async()
    await workers.run(concurrency=3)
    assert [queue.status(one) for one in (before, after)] == [Status.SUCCEEDED, Status.SUCCEEDED]
    assert queue.status(job_id) is Status.FAILED


@pytest.mark.parametrize("depth", [900, 950, 980, 990])
async def test_arguments_that_are_nearly_too_deep_fail_or_not(
    app: App, workers: Workers, queue: Queue, depth: int
) -> None:
    app.task(name="task")(lambda **kwargs: None)
    job_id = queue.sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES "
        "('q', 'task', ('{\"deep\": '||repeat('[', :depth)||repeat(']', :depth)||'}')::jsonb) RETURNING id",
        depth=depth,
    )
    await workers.run()
    assert queue.status(job_id) in (Status.SUCCEEDED, Status.FAILED)


async def test_a_json_loads_that_raises_fails_the_job(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda number: None)
    ids = await task.batch_defer_async({"number": 1}, {"number": 2})

    def refuse_one(text: str) -> Any:
        if "1" in text:
            raise LookupError("Not this one")
        return {"number": 2}

    app.connector.json_loads = refuse_one
    await workers.run(concurrency=2)
    assert [queue.status(job_id) for job_id in ids] == [Status.FAILED, Status.SUCCEEDED]


async def test_a_log_handler_that_raises_decides_nothing(app: App, workers: Workers, queue: Queue) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if hasattr(record, "job"):
                raise OSError("The disk is full")

    def fail() -> None:
        raise ValueError

    logger = logging.getLogger("procrastinate.worker.broken")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(Broken())
    good = await app.task(name="good")(lambda: None).defer_async()
    bad = await app.task(name="bad")(fail).defer_async()
    running = workers.start()
    running.worker.logger = logger
    await queue.succeeded(good)
    await queue.failed(bad)
    logger.handlers.clear()


async def test_a_result_that_cannot_be_shown_is_no_failure(app: App, workers: Workers, queue: Queue) -> None:
    class Shy:
        def __str__(self) -> str:
            raise ValueError("Do not look at me")

    job_id = await app.task(name="task")(lambda: Shy()).defer_async()
    await workers.run()
    assert queue.status(job_id) is Status.SUCCEEDED
