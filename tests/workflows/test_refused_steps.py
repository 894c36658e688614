"""A step or a group that the database refuses to change holds up no other."""

from __future__ import annotations

import datetime

from procrastinate.app import App
from procrastinate.core import Status
from tests.worker.running import Queue, Workers
from tests.worker.test_refused_rows import refuse
from tests.workflows.tasks import Notes


async def test_a_step_that_cannot_be_released_holds_up_no_other_and_no_fetch(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, name="first")
    for number in range(5):
        wf.add(tasks.note, name=f"part {number}", after=[first])
    await wf.defer_async()
    refused_id = queue.sql("SELECT max(id) - 2 FROM procrastinate_jobs")
    refuse(queue, refused_id)
    workers.start()
    others = [refused_id + place for place in (-3, -2, -1, 1, 2)]
    await queue.succeeded(*others)
    assert queue.status(refused_id) is Status.TODO
    await queue.succeeded(await tasks.note.defer_async(name="another"))


async def test_a_group_that_cannot_be_finished_holds_up_no_other(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    ids = []
    for _ in range(3):
        wf = app.workflow("import")
        wf.add(tasks.note, name="only")
        ids.append(await wf.defer_async())
    refuse(queue, ids[1], table="procrastinate_workflows")
    workers.start()
    await workers.app.workflows.wait_async(ids[2], timeout=30)
    await workers.app.workflows.wait_async(ids[0], timeout=30)
    assert queue.sql("SELECT finished_at FROM procrastinate_workflows WHERE id = :id", id=ids[1]) is None


async def test_a_group_that_cannot_be_finished_keeps_no_worker_that_ends_without_jobs(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, name="only")
    workflow_id = await wf.defer_async()
    refuse(queue, workflow_id, table="procrastinate_workflows")
    await workers.run()
    assert queue.statuses() == {"succeeded": 1}


async def test_a_step_that_cannot_be_cancelled_holds_up_the_cancellation_of_no_other(
    app: App, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("import")
    for number in range(4):
        wf.add(tasks.note, name=str(number))
    workflow_id = await wf.defer_async()
    refused_id = queue.sql("SELECT max(id) - 2 FROM procrastinate_jobs")
    refuse(queue, refused_id)
    assert await app.workflows.cancel_async(workflow_id) == 3
    assert queue.statuses() == {"cancelled": 3, "todo": 1}


async def test_a_workflow_that_a_users_row_refers_to_holds_up_the_deletion_of_no_other(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    for _ in range(3):
        wf = app.workflow("import")
        wf.add(tasks.note, name="only")
        await wf.defer_async()
    await workers.run()
    old = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    queue.sql("UPDATE procrastinate_workflows SET finished_at = :old", old=old)
    kept = queue.sql("SELECT min(id) FROM procrastinate_jobs")
    queue.sql("CREATE TABLE reports (job_id bigint REFERENCES procrastinate_jobs)")
    queue.sql("INSERT INTO reports VALUES (:id)", id=kept)
    await app.job_manager.delete_old_jobs(nb_hours=1)
    assert queue.sql("SELECT array_agg(id) FROM procrastinate_jobs") == [kept]
