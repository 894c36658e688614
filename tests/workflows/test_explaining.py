"""The answer to the question why a step does not run."""

from __future__ import annotations

from procrastinate.app import App
from procrastinate.inspection import Explanation
from tests.worker.conftest import Workers
from tests.workflows.tasks import Notes


async def explained(app: App, workflow_id: int, step: str) -> Explanation:
    """Explain the step with this name."""
    graph = await app.workflows.graph_async(workflow_id)
    (job_id,) = next(node.job_ids for node in graph.nodes if node.name == step)
    return await app.inspect.explain_async(job_id)


async def test_a_step_that_waits_names_the_steps_and_groups_before_it(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, step="first")
    pages = wf.group("pages")
    pages.add_many(tasks.note, [{"name": 1}, {"name": 2}])
    wf.add(tasks.note, step="last", after=[first, pages])
    workflow_id = await wf.defer_async()
    headline = (await explained(app, workflow_id, "last")).headline
    assert headline.code == "waits-for-steps"
    assert f"'first' (job {first.job_id}, todo), the group 'pages' of workflow {workflow_id}" in headline.text
    assert headline.advice == f"Wait, or see `procrastinate why {first.job_id}`"


async def test_a_step_of_a_workflow_on_hold_names_what_failed(app: App, tasks: Notes, workers: Workers) -> None:
    wf = app.workflow("import", if_failed="hold")
    wf.add(tasks.note, step="last", after=[wf.add(tasks.fail, step="first")])
    workflow_id = await wf.defer_async()
    await workers.run()
    headline = (await explained(app, workflow_id, "last")).headline
    assert headline.code == "workflow-held"
    assert "'first' (job " in headline.text
    assert "failed" in headline.text
    assert f"retry({workflow_id})" in headline.advice


async def test_a_signal_that_has_not_come_says_how_to_send_it(app: App, tasks: Notes) -> None:
    wf = app.workflow("order")
    wf.add(tasks.note, after=[wf.add_signal("approved")])
    workflow_id = await wf.defer_async()
    headline = (await explained(app, workflow_id, "approved")).headline
    assert headline.code == "waits-for-signal"
    assert headline.advice == f"app.workflows.signal({workflow_id}, 'approved')"


async def test_a_step_whose_turn_has_come_waits_for_a_worker(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, step="first")
    wf.add(tasks.note, step="last", after=[first])
    workflow_id = await wf.defer_async()
    assert first.job_id is not None
    await app.job_manager.cancel_job_by_id_async(first.job_id)
    assert [one.code for one in (await explained(app, workflow_id, "last")).reasons] == ["no-worker", "step-due"]
