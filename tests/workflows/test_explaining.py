"""The answer to the question why a step does not run."""

from __future__ import annotations

import pytest

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
    assert (
        f"'first' (job {first.job_id}, ready), the group 'pages' (2 steps have not ended) of workflow {workflow_id}"
        in headline.text
    )
    assert headline.advice == f"Wait, or see `procrastinate why {first.job_id}`"


async def test_steps_before_a_step_are_called_by_the_word_of_their_state(
    app: App, tasks: Notes, workers: Workers
) -> None:
    wf = app.workflow("import")
    ended = wf.add(tasks.note, step="ended")
    ready = wf.add(tasks.note.configure(queue="elsewhere"), step="ready")
    waiting = wf.add(tasks.note, step="waiting", after=[ready])
    later = wf.add(tasks.note, step="later", after=[ended], delay=3600)
    wf.add(tasks.note, step="last", after=[later, ready, waiting])
    workflow_id = await wf.defer_async()
    await workers.run(queues=["default"])
    text = (await explained(app, workflow_id, "last")).headline.text
    assert f"'later' (job {later.job_id}, scheduled)" in text
    assert f"'ready' (job {ready.job_id}, ready)" in text
    assert f"'waiting' (job {waiting.job_id}, waiting for steps)" in text


async def test_a_step_of_a_workflow_on_hold_names_what_failed(app: App, tasks: Notes, workers: Workers) -> None:
    wf = app.workflow("import", if_failed="hold")
    wf.add(tasks.note, step="last", after=[wf.add(tasks.fail, step="first")])
    workflow_id = await wf.defer_async()
    await workers.run()
    explanation = await explained(app, workflow_id, "last")
    headline = explanation.headline
    assert [one.code for one in explanation.reasons] == ["workflow-held", "no-worker"]
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


async def test_a_step_behind_a_signal_names_it_and_nothing_else(app: App, tasks: Notes, workers: Workers) -> None:
    wf = app.workflow("order")
    first = wf.add(tasks.note)
    approved, paid = wf.add_signal("approved", after=[first]), wf.add_signal("paid")
    wf.add(tasks.note, step="one", after=[first, approved])
    wf.add(tasks.note, step="both", after=[approved, paid])
    workflow_id = await wf.defer_async()
    await workers.run()
    (reason, no_worker) = (await explained(app, workflow_id, "one")).reasons
    assert (reason.code, no_worker.code) == ("waits-for-steps", "no-worker")
    assert f"The step waits for the signal 'approved' (job {approved.job_id}, not sent) of workflow" in reason.text
    assert reason.advice == f"app.workflows.signal({workflow_id}, 'approved')"
    advice = (await explained(app, workflow_id, "both")).headline.advice
    assert advice == f"app.workflows.signal({workflow_id}, 'approved') and app.workflows.signal({workflow_id}, 'paid')"
    assert "step-due" not in [one.code for one in (await explained(app, workflow_id, "approved")).reasons]


async def test_a_step_whose_turn_has_come_waits_for_a_worker(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, step="first")
    wf.add(tasks.note, step="last", after=[first])
    workflow_id = await wf.defer_async()
    assert first.job_id is not None
    await app.job_manager.cancel_job_by_id_async(first.job_id)
    assert [one.code for one in (await explained(app, workflow_id, "last")).reasons] == ["no-worker", "step-due"]


async def test_a_group_says_how_many_of_its_steps_are_open(app: App, tasks: Notes, workers: Workers) -> None:
    wf = app.workflow("import")
    pages = wf.group("pages")
    pages.add_many(tasks.note, [{"name": number} for number in range(3)])
    pages.add(tasks.note, delay=3600)
    wf.add(tasks.note, step="last", after=[pages])
    workflow_id = await wf.defer_async()
    text = (await explained(app, workflow_id, "last")).headline.text
    assert text.startswith("The step waits for the end of the group 'pages' (4 steps have not ended) of workflow ")
    await workers.run()
    assert "(1 step has not ended)" in (await explained(app, workflow_id, "last")).headline.text


async def test_a_step_that_waits_for_many_says_how_many(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, step="last", after=[wf.add(tasks.note, step=f"step {number}") for number in range(30)])
    workflow_id = await wf.defer_async()
    text = (await explained(app, workflow_id, "last")).headline.text
    assert "'step 0' (job " in text
    assert " and 27 more of workflow " in text


@pytest.mark.parametrize(
    ("kind", "when"),
    [
        ("on_success", "It runs if all have succeeded"),
        ("on_failure", "It runs if one of them did not succeed and the workflow is not cancelled"),
        ("on_end", "It runs if they have ended, whatever came of them"),
    ],
)
async def test_a_callback_is_told_apart_from_a_step(app: App, tasks: Notes, kind: str, when: str) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note)
    getattr(wf, kind)(tasks.double, number=1)
    workflow_id = await wf.defer_async()
    headline = (await explained(app, workflow_id, "double")).headline
    assert headline.code == "waits-for-steps"
    assert headline.text == (
        f"The callback {kind} of workflow {workflow_id} ('import') waits for the end of all steps: 1 step has not "
        f"ended. {when}"
    )
    graph = await app.workflows.graph_async(workflow_id)
    assert {node.name: node.callback for node in graph.nodes} == {"note": None, "double": kind}
    assert f"{kind.replace('_', ' ')}: double (waiting for steps)" in graph.mermaid().replace("#58;", ":")


async def test_a_signal_names_its_timeout_while_it_waits(app: App, tasks: Notes, workers: Workers) -> None:
    wf = app.workflow("order")
    wf.add_signal("approved", timeout=3600)
    wf.add_signal("paid")
    workflow_id = await wf.defer_async()
    await workers.run()
    explanation = await explained(app, workflow_id, "approved")
    approved = explanation.headline
    assert approved.code == "waits-for-signal"
    assert "waits-for-delay" not in [one.code for one in explanation.reasons]
    assert "has not come. Without it the step fails after its timeout of 1 h, at 20" in approved.text
    assert approved.advice == f"app.workflows.signal({workflow_id}, 'approved')"
    assert (await explained(app, workflow_id, "paid")).headline.text.endswith("has not come. It has no timeout")


async def test_a_step_names_its_delay(app: App, tasks: Notes, workers: Workers) -> None:
    wf = app.workflow("order")
    wf.add(tasks.note, step="later", after=[wf.add(tasks.note)], delay=3600)
    workflow_id = await wf.defer_async()
    await workers.run()
    headline = (await explained(app, workflow_id, "later")).headline
    assert headline.code == "waits-for-delay"
    assert "Its delay of 1 h passes until 20" in headline.text


async def test_a_step_of_a_cancelled_workflow_says_that_it_does_not_start(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, step="first")
    wf.add(tasks.note, step="last", after=[first])
    wf.on_end(tasks.double, number=1)
    workflow_id = await wf.defer_async()
    assert await app.job_manager.begin_cancel_async(workflow_id)
    for step in ("first", "last"):
        codes = [one.code for one in (await explained(app, workflow_id, step)).reasons]
        assert "workflow-cancelled" in codes
    assert "workflow-cancelled" not in [one.code for one in (await explained(app, workflow_id, "double")).reasons]
