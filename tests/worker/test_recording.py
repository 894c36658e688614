"""The outcome writer knows the jobs that it writes. By that the worker tells them from unknown ones."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import sqlalchemy as sa

from procrastinate import core, exceptions
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.core import Status
from procrastinate.jobs import DeleteJobCondition
from procrastinate.manager import JobManager
from procrastinate.retry import RetryDecision
from procrastinate.worker.fetch.noticeboard import Noticeboard
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
