"""A workflow ends although rows that lead from step to step are gone."""

from __future__ import annotations

import logging

import pytest

from procrastinate import core
from procrastinate.app import App
from tests.worker.running import Queue, Workers
from tests.workflows.tasks import Notes

END = "UPDATE procrastinate_jobs SET status = 'succeeded', finished_at = now() WHERE step LIKE 'part%'"


async def test_a_step_whose_dependencies_are_gone_is_cancelled_with_an_error(
    app: App, workers: Workers, queue: Queue, tasks: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, name="first")
    wf.add(tasks.note, name="second", after=[first])
    workflow_id = await wf.defer_async()
    queue.sql("TRUNCATE procrastinate_dependencies")
    with caplog.at_level(logging.ERROR):
        await workers.run()
    assert queue.statuses() == {"succeeded": 1, "cancelled": 1}
    assert "procrastinate_dependencies" in queue.sql("SELECT message FROM procrastinate_errors")
    assert [vars(record)["action"] for record in caplog.records] == ["steps_stranded"]
    await app.workflows.wait_async(workflow_id, timeout=30)


async def test_a_step_whose_arrival_is_lost_runs(app: App, workers: Workers, queue: Queue, tasks: Notes) -> None:
    wf = app.workflow("import")
    parts = [wf.add(tasks.note, step=f"part {number}") for number in range(2)]
    wf.add(tasks.note, name="last", after=parts)
    workflow_id = await wf.defer_async()
    queue.sql(END)
    queue.sql("TRUNCATE procrastinate_arrivals")
    workers.start()
    await app.workflows.wait_async(workflow_id, timeout=30)
    assert queue.statuses() == {"succeeded": 3}


async def test_a_group_whose_arrival_is_lost_ends(app: App, workers: Workers, queue: Queue, tasks: Notes) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, step="part 1")
    workflow_id = await wf.defer_async()
    queue.sql(END)
    queue.sql("TRUNCATE procrastinate_arrivals")
    workers.start()
    await app.workflows.wait_async(workflow_id, timeout=30)


async def test_a_retried_step_that_never_had_dependencies_is_not_cancelled(
    app: App, queue: Queue, tasks: Notes
) -> None:
    """It waits until the arrival of the retry is looked at."""
    wf = app.workflow("import")
    wf.add(tasks.note, step="part 1")
    workflow_id = await wf.defer_async()
    queue.sql(END.replace("succeeded", "failed"))
    assert await app.workflows.retry_async(workflow_id)
    assert await app.job_manager.sweep_workflows() == core.WorkflowSweep(released=1)
    assert queue.statuses() == {"todo": 1}


async def test_a_sweep_leaves_steps_alone_that_wait_for_others(app: App, queue: Queue, tasks: Notes) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, name="first")
    steps = [wf.add(tasks.note, name=str(number), after=[first]) for number in range(3)]
    wf.add(tasks.note, name="last", after=steps)
    await wf.defer_async()
    sweep = core.sweep_workflows(queue.connection, limit=2)
    assert sweep.reached_step is not None
    rest = core.sweep_workflows(queue.connection, after_step=sweep.reached_step)
    assert (sweep.released, sweep.cancelled, rest) == (0, 0, core.WorkflowSweep())
    assert queue.statuses() == {"todo": 5}


async def test_a_sweep_leaves_a_group_to_the_arrival_of_its_deleted_step(app: App, queue: Queue, tasks: Notes) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, step="part 1")
    workflow_id = await wf.defer_async()
    queue.sql("DELETE FROM procrastinate_jobs")
    assert (await app.job_manager.sweep_workflows()).finished == 0
    assert core.resolve_arrivals(queue.connection).finished == 1
    assert (await app.workflows.get_async(workflow_id)).state == "failed"


async def test_an_arrival_of_a_deleted_step_is_taken_although_its_group_has_ended(
    app: App, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, step="part 1")
    await wf.defer_async()
    queue.sql("DELETE FROM procrastinate_jobs")
    queue.sql("UPDATE procrastinate_workflows SET finished_at = now()")
    assert not core.resolve_arrivals(queue.connection).left
    assert queue.sql("SELECT count(*) FROM procrastinate_arrivals") == 0


@pytest.mark.parametrize(("deleted", "lost"), [("part 30", 1), ("part %", 30)], ids=["the last one", "all"])
async def test_a_group_ends_only_after_the_last_arrival_that_counts_a_deleted_step(
    app: App, queue: Queue, tasks: Notes, deleted: str, lost: int
) -> None:
    """One look takes fewer arrivals than these."""
    wf = app.workflow("import")
    for number in range(1, 31):
        wf.add(tasks.note, step=f"part {number}")
    workflow_id = await wf.defer_async()
    for job_id in queue.sql("SELECT array_agg(id ORDER BY id) FROM procrastinate_jobs"):
        queue.sql("DELETE FROM procrastinate_jobs WHERE id = :id AND step LIKE :deleted", id=job_id, deleted=deleted)
        queue.sql(f"{END} AND id = :id", id=job_id)
    while core.resolve_arrivals(queue.connection).taken:
        pass
    assert (await app.workflows.get_async(workflow_id)).state == "failed"
    assert queue.sql("SELECT lost FROM procrastinate_workflows WHERE parent_id IS NULL") == lost
