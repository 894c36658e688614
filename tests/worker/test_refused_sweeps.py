"""A sweep that the database refuses keeps a worker from none of its other duties."""

from __future__ import annotations

import logging

import pytest

from procrastinate import core
from procrastinate.app import App
from procrastinate.limits import Limit
from tests.worker.running import Queue, Workers
from tests.worker.test_refused_rows import LIVELY, refuse
from tests.worker.test_stalled import fetched_by_a_worker_that_died


@pytest.fixture
async def app(app: App, queue: Queue) -> App:
    """An app whose database refuses each sweep of the lines. A job is in line, its limit has room, and no opening says
    so.
    """
    core.define_limits(queue.connection, [core.LimitDefinition(name="few", concurrency=1)])
    await app.task(name="limited", limit=Limit("few", concurrency=1))(lambda: None).defer_async()
    queue.sql("TRUNCATE procrastinate_openings")
    refuse(queue, event="INSERT", table="procrastinate_openings")
    return app


async def test_a_refused_sweep_keeps_no_job_with_a_dead_worker(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await app.task(name="task")(lambda: None).defer_async()
    await fetched_by_a_worker_that_died(app, queue, registered=True)
    with caplog.at_level(logging.WARNING):
        workers.start(**LIVELY)
        await queue.succeeded(job_id)
    assert "The rescuer failed" in caplog.text
    assert "this row is under audit" in caplog.text


async def test_a_refused_sweep_of_lines_keeps_no_workflow_waiting(app: App, workers: Workers, queue: Queue) -> None:
    note = app.task(name="note")(lambda: None)
    wf = app.workflow("import")
    parts = [wf.add(note, step=f"part {number}") for number in range(2)]
    wf.add(note, after=parts)
    workflow_id = await wf.defer_async()
    queue.sql("UPDATE procrastinate_jobs SET status = 'succeeded', finished_at = now() WHERE step LIKE 'part%'")
    queue.sql("TRUNCATE procrastinate_arrivals")
    workers.start(**LIVELY)
    await app.workflows.wait_async(workflow_id, timeout=30)
