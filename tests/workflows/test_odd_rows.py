"""Whatever plain SQL writes into the tables of workflows, it concerns its own workflow alone."""

from __future__ import annotations

from procrastinate.app import App
from procrastinate.core import Rule, WorkflowState
from tests.worker.running import Queue, Workers
from tests.workflows.tasks import Notes

LARGEST = 2**63 - 1


def store_group_with_endless_counts(queue: Queue) -> int:
    """Store a step that waits for an ended group whose counts have no sum in their type, and return the group's id."""
    groups = "INSERT INTO procrastinate_workflows (root_id, kind, name, if_failed, finished_at, failed, lost)"
    queue.sql(f"{groups} VALUES (900, 'workflow', 'odd', 'cancel', now(), {LARGEST}, {LARGEST})")
    queue.sql("UPDATE procrastinate_workflows SET root_id = id")
    group_id: int = queue.sql("SELECT id FROM procrastinate_workflows")
    step_id = queue.sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, readiness, scheduled_at, workflow_id) "
        "VALUES ('default', 'odd', 5, 'infinity', :group) RETURNING id",
        group=group_id,
    )
    queue.sql(
        "INSERT INTO procrastinate_dependencies (job_id, parent_workflow_id, rule) VALUES (:job, :group, :rule)",
        job=step_id,
        group=group_id,
        rule=Rule.SUCCESS.value,
    )
    queue.sql("INSERT INTO procrastinate_arrivals (waiting) VALUES (ARRAY[:job]::bigint[])", job=step_id)
    return group_id


async def test_counts_without_a_sum_stop_no_other_workflow(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    store_group_with_endless_counts(queue)
    wf = app.workflow("import")
    parts = [wf.add(tasks.note, name=f"part {number}") for number in range(2)]
    wf.add(tasks.note, name="last", after=parts)
    workflow_id = await wf.defer_async()
    workers.start()
    info = await app.workflows.wait_async(workflow_id, timeout=30)
    assert info.state is WorkflowState.SUCCEEDED


async def test_counts_without_a_sum_hide_no_workflow_from_the_lists(app: App, queue: Queue, tasks: Notes) -> None:
    group_id = store_group_with_endless_counts(queue)
    wf = app.workflow("import")
    wf.add(tasks.note, name="only")
    workflow_id = await wf.defer_async()
    assert [info.id for info in await app.workflows.list_async(state=WorkflowState.RUNNING)] == [workflow_id]
    assert [info.id for info in await app.workflows.list_async(state=WorkflowState.FAILED)] == [group_id]


async def test_a_step_whose_status_only_a_later_release_knows_hides_no_workflow(
    app: App, queue: Queue, tasks: Notes
) -> None:
    """The later release may have been rolled back."""
    queue.sql("ALTER TYPE procrastinate_job_status ADD VALUE 'archived'")
    wf = app.workflow("import")
    kept, later = wf.add(tasks.note), wf.add(tasks.note)
    workflow_id = await wf.defer_async()
    queue.sql("SET session_replication_role = replica")  # the later release has triggers of its own
    queue.sql("UPDATE procrastinate_jobs SET status = 'archived' WHERE id = :id", id=later.job_id)
    assert [(info.id, info.counts.ready) for info in await app.workflows.list_async()] == [(workflow_id, 1)]
    graph = await app.workflows.graph_async(workflow_id)
    assert [node.job_ids for node in graph.nodes] == [(kept.job_id,)]


async def test_a_workflow_that_names_another_one_as_its_own_hides_no_workflow_from_the_lists(
    app: App, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, name="only")
    workflow_id = await wf.defer_async()
    queue.sql(
        "INSERT INTO procrastinate_workflows (root_id, kind, name, if_failed) VALUES (-1, 'workflow', 'odd', 'cancel')"
    )
    assert [info.id for info in await app.workflows.list_async()] == [workflow_id]


async def test_a_rule_of_a_later_release_keeps_no_step_from_being_explained(
    app: App, queue: Queue, tasks: Notes
) -> None:
    """A step that waits for the group of all steps is shown as a callback, by its rule."""
    wf = app.workflow("import")
    wf.add(tasks.note, name="only")
    wf.on_end(tasks.note, name="last")
    workflow_id = await wf.defer_async()
    queue.sql("UPDATE procrastinate_dependencies SET rule = 99")
    callback_id = queue.sql("SELECT job_id FROM procrastinate_dependencies")
    assert (await app.inspect.explain_async(callback_id)).reasons
    assert (await app.workflows.graph_async(workflow_id)).mermaid()


async def test_a_group_that_is_part_of_itself_is_counted_once(app: App, queue: Queue, tasks: Notes) -> None:
    wf = app.workflow("import")
    group = wf.group("all")
    group.add(tasks.note, name="part")
    last = wf.add(tasks.note, name="last", after=[group])
    await wf.defer_async()
    queue.sql("UPDATE procrastinate_workflows SET parent_id = id WHERE kind = 'group'")
    texts = [reason.text for reason in (await app.inspect.explain_async(last.job_id)).reasons]
    assert any("1 step has not ended" in text for text in texts)
