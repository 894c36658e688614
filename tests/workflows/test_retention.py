"""Old workflows are deleted as a whole, and members of open ones stay."""

from __future__ import annotations

import sqlalchemy as sa

from procrastinate.app import App
from tests.worker.running import Queue, Workers
from tests.workflows.tasks import Notes

TABLES = ("jobs", "workflows", "dependencies", "arrivals", "results", "errors", "events")


def age(queue: Queue) -> None:
    """Let everything have ended a day ago."""
    for table in ("jobs", "workflows"):
        queue.sql(
            f"UPDATE procrastinate_{table} SET finished_at = finished_at - interval '1 day'"  # noqa: S608
            " WHERE finished_at IS NOT NULL"
        )


def counts(queue: Queue) -> dict[str, int]:
    return {table: queue.sql(f"SELECT count(*) FROM procrastinate_{table}") for table in TABLES}  # noqa: S608


async def test_a_workflow_goes_with_all_that_belongs_to_it(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("import")
    pages = wf.group("pages")
    pages.add_many(tasks.double, [{"number": number} for number in range(30)])
    wf.add(tasks.total, numbers=pages.values)
    wf.on_success(tasks.note, name="success")
    wf.on_failure(tasks.note, name="failure")
    await wf.defer_async()
    await workers.run()
    await app.job_manager.delete_old_jobs(nb_hours=1)
    assert counts(queue)["jobs"] == 33
    age(queue)
    await app.job_manager.delete_old_jobs(nb_hours=1)
    assert counts(queue) == dict.fromkeys(TABLES, 0)


async def test_members_of_an_open_workflow_stay(app: App, workers: Workers, queue: Queue, tasks: Notes) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.double, number=2)
    approved = wf.add_signal("approved", after=[first])
    wf.add(tasks.total, numbers=[first.value], after=[approved])
    workflow_id = await wf.defer_async()
    await workers.run()
    age(queue)
    await app.job_manager.delete_old_jobs(nb_hours=1, include_failed=True, include_cancelled=True)
    assert counts(queue)["jobs"] == 3
    await app.workflows.signal_async(workflow_id, "approved")
    await workers.run()
    assert tasks.ran == [2, [4]]


async def test_the_state_of_the_workflow_decides_and_not_that_of_a_step(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note)
    wf.add(tasks.note, after=[wf.add(tasks.fail)])
    await wf.defer_async()
    await workers.run()
    age(queue)
    await app.job_manager.delete_old_jobs(nb_hours=1, include_cancelled=True)
    assert counts(queue)["jobs"] == 3
    await app.job_manager.delete_old_jobs(nb_hours=1, include_failed=True)
    assert counts(queue) == dict.fromkeys(TABLES, 0)


async def test_a_workflow_with_jobs_in_another_queue_stays_where_one_queue_is_asked_for(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    for queues in (["a", "a"], ["a", "b"]):
        wf = app.workflow("import")
        for name in queues:
            wf.add(tasks.note.configure(queue=name))
        await wf.defer_async()
    await workers.run()
    age(queue)
    await app.job_manager.delete_old_jobs(nb_hours=1, queue="a")
    assert counts(queue)["jobs"] == 2


async def test_a_large_workflow_is_deleted_in_steps(
    app: App, workers: Workers, queue: Queue, tasks: Notes, connection: sa.Connection
) -> None:
    wf = app.workflow("import")
    wf.group("pages").add_many(tasks.note, [{"name": number} for number in range(1500)])
    workflow_id = await wf.defer_async()
    assert await app.workflows.cancel_async(workflow_id) == 1500
    await workers.run()
    age(queue)
    await app.job_manager.delete_old_jobs(nb_hours=1, include_cancelled=True)
    assert counts(queue) == dict.fromkeys(TABLES, 0)
