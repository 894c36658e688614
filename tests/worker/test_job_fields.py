"""Which job a log record belongs to, for records of any logger and from any place inside a task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from procrastinate.app import App
from procrastinate.logs import JobFilter, job_fields
from procrastinate.retry import RetryStrategy
from tests.worker.running import Workers

logger = logging.getLogger("a_program")


class Records(logging.Handler):
    """Keeps what a handler with the filter gets."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(JobFilter())
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def of(self, message: str) -> list[Any]:
        return [record for record in self.records if record.getMessage() == message]


@pytest.fixture
def log() -> Iterator[Records]:
    handler = Records()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.setLevel(level)
    root.removeHandler(handler)


async def test_records_of_a_sync_task_name_its_job(app: App, workers: Workers, log: Records) -> None:
    task = app.task(name="add", queue="sums")(lambda: logger.info("inside"))
    job_id = await task.defer_async()
    await workers.run(name="w1")
    (record,) = log.of("inside")
    assert (record.job_id, record.task, record.queue, record.attempt) == (job_id, "add", "sums", 1)
    assert record.worker_name == "w1"


async def test_records_of_what_an_async_task_starts_name_its_job(app: App, workers: Workers, log: Records) -> None:
    @app.task(name="add")
    async def add(a: int) -> None:
        await asyncio.gather(asyncio.to_thread(logger.info, "thread"), child())

    async def child() -> None:
        await asyncio.sleep(0)
        logger.info("child")

    ids = await add.batch_defer_async({"a": 1}, {"a": 2})
    await workers.run(concurrency=2)
    assert sorted(record.job_id for record in log.of("thread")) == sorted(ids)
    assert sorted(record.job_id for record in log.of("child")) == sorted(ids)


async def test_each_attempt_has_its_number(app: App, workers: Workers) -> None:
    attempts: list[Any] = []

    @app.task(name="divide", retry=RetryStrategy(max_attempts=1))
    def divide() -> None:
        attempts.append(job_fields()["attempt"])
        raise ZeroDivisionError

    await divide.defer_async()
    await workers.run()
    assert attempts == [1, 2]


async def test_records_of_the_worker_about_a_job_name_it(app: App, workers: Workers, log: Records) -> None:
    job_id = await app.task(name="add")(lambda: None).defer_async()
    await workers.run()
    by_action = {getattr(record, "action", None): record for record in log.records}
    assert (by_action["start_job"].job_id, by_action["start_job"].task) == (job_id, "add")
    assert (by_action["job_success"].job_id, by_action["job_success"].task) == (job_id, "add")
    assert by_action["stop_worker"].job_id is None


async def test_no_field_of_a_job_stays_in_the_program(app: App, workers: Workers) -> None:
    await app.task(name="add")(lambda: None).defer_async()
    await workers.run()
    assert job_fields() == {}
