"""The outcome writer knows the jobs that it writes. By that the worker tells them from unknown ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core, exceptions
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.core import Status
from procrastinate.jobs import DeleteJobCondition
from procrastinate.manager import JobManager
from procrastinate.retry import RetryDecision
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.run import pending_outcomes
from procrastinate.worker.run.outcome import Outcome
from procrastinate.worker.run.outcome_writer import OutcomeWriter
from tests import database
from tests.worker.running import Queue, happens, until


class LosesConnection(WorkerConnector):
    """The first look at what a batch has left is not answered, once the test lets it go on."""

    def __init__(self, database_url: str) -> None:
        super().__init__(database.libpq_url(database_url))
        self.asked, self.lost = asyncio.Event(), asyncio.Event()
        self.looks = 0

    async def run_async(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation is core.list_held_jobs:
            self.looks += 1
            if self.looks == 1:
                self.asked.set()
                await happens(self.lost)
                raise exceptions.DatabaseUnavailable
        return await super().run_async(operation, *args, **kwargs)


async def test_a_batch_that_is_written_again_forgets_no_later_run_of_a_job_that_it_has_recorded(
    engine: sa.Engine, queue: Queue, database_url: str
) -> None:
    """The later outcome is still to be written: taken for unknown, the job would run once more."""
    connector = LosesConnection(database_url)
    await connector.open_async()
    manager = JobManager(connector)
    worker_id = await manager.register_worker()
    writer = OutcomeWriter(manager, DeleteJobCondition.NEVER, logging.getLogger(), Noticeboard(worker_id))
    await connector.run_async(core.defer_jobs, [database.new_job(), database.new_job()])
    retried, locked = await manager.fetch_jobs(None, worker_id, 2)
    with engine.begin() as user:
        user.execute(sa.text("SELECT 1 FROM procrastinate_jobs WHERE id = :id FOR UPDATE"), {"id": locked.id})
        writer.add(Outcome(job=retried, status=Status.TODO, retry_decision=RetryDecision(retry_in={"seconds": 0})))
        writer.add(Outcome(job=locked, status=Status.SUCCEEDED))
        recording = asyncio.create_task(writer.run())
        await happens(connector.asked)
        await manager.promote_jobs()
        (again,) = await manager.fetch_jobs(None, worker_id, 1)
        assert again.id == retried.id
        queue.sql("BEGIN")
        queue.sql("SELECT 1 FROM procrastinate_jobs WHERE id = :id FOR UPDATE", id=again.id)
        writer.add(Outcome(job=again, status=Status.SUCCEEDED))
        connector.lost.set()
        await until(lambda: connector.looks > 2)
        assert again.id in writer.unrecorded_ids
        queue.sql("ROLLBACK")
    await writer.flush()
    assert writer.unrecorded_ids == set()
    assert queue.statuses() == {"succeeded": 2}
    recording.cancel()
    await connector.close_async()


class CountsWrites(WorkerConnector):
    """The number of outcomes in each write."""

    def __init__(self, database_url: str) -> None:
        super().__init__(database.libpq_url(database_url))
        self.batches: list[int] = []

    async def run_async(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation is core.finish_jobs:
            self.batches.append(len(args[0]))
        return await super().run_async(operation, *args, **kwargs)


@contextlib.asynccontextmanager
async def recording(database_url: str, job: core.NewJob, number: int) -> AsyncIterator[tuple[OutcomeWriter, Any, Any]]:
    """A running writer, fetched jobs, and the sizes of its writes so far."""
    connector = CountsWrites(database_url)
    await connector.open_async()
    manager = JobManager(connector)
    worker_id = await manager.register_worker()
    writer = OutcomeWriter(manager, DeleteJobCondition.NEVER, logging.getLogger(), Noticeboard(worker_id))
    await connector.run_async(core.defer_jobs, [job] * number)
    await manager.promote_jobs()
    fetched = await manager.fetch_jobs(None, worker_id, number)
    running = asyncio.create_task(writer.run())
    try:
        yield writer, fetched, connector.batches
    finally:
        await writer.flush()
        running.cancel()
        await connector.close_async()


async def test_outcomes_that_come_fast_are_written_together(
    engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending_outcomes, "_GATHERING", 0.5)
    monkeypatch.setattr(pending_outcomes, "_FAST_PACE", 5.0)
    async with recording(database_url, database.new_job(), 9) as (writer, fetched, batches):
        for job in fetched[:5]:
            writer.add(Outcome(job=job, status=Status.SUCCEEDED))
        await until(lambda: batches == [5] and writer.is_idle)
        for job in fetched[5:]:
            writer.add(Outcome(job=job, status=Status.SUCCEEDED))
            await asyncio.sleep(0.01)
        await writer.flush()
        assert batches == [5, 4]


async def test_an_outcome_that_comes_alone_is_written_at_once(
    engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending_outcomes, "_GATHERING", 3600)
    async with recording(database_url, database.new_job(), 4) as (writer, fetched, batches):
        for job in fetched:
            writer.add(Outcome(job=job, status=Status.SUCCEEDED))
            await writer.flush()
        assert batches == [1, 1, 1, 1]


async def test_an_outcome_that_hands_over_a_lock_is_written_at_once(
    engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending_outcomes, "_GATHERING", 3600)
    monkeypatch.setattr(pending_outcomes, "_FAST_PACE", 3600)
    async with recording(database_url, database.new_job(lock="a"), 1) as (writer, [locked], batches):
        writer._pending.note_written(3)
        writer.add(Outcome(job=locked, status=Status.SUCCEEDED))
        await writer.flush()
        assert batches == [1]
