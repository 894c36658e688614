"""Programs look at workflows, wait for them, cancel and retry them, and send them signals."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate.app import App
from procrastinate.exceptions import WaitTimeout, WorkflowEnded, WorkflowNotFound
from tests.worker.running import Queue, Workers
from tests.workflows.tasks import Notes


async def test_the_counts_tell_what_became_of_the_steps(app: App, workers: Workers, tasks: Notes) -> None:
    wf = app.workflow("import")
    fetch = wf.add(tasks.fail)
    wf.add(tasks.note, after=[fetch])
    wf.add(tasks.note)
    wf.on_end(tasks.note, name="end")
    workflow_id = await wf.defer_async()
    before = await app.workflows.get_async(workflow_id)
    assert (before.state, before.counts.ready, before.counts.waiting_for_steps) == ("running", 2, 1)
    await workers.run()
    after = await app.workflows.get_async(workflow_id)
    assert (after.name, after.state, after.has_ended) == ("import", "failed", True)
    assert (after.counts.succeeded, after.counts.failed, after.counts.cancelled, after.counts.total) == (1, 1, 1, 3)
    assert after.finished_at is not None


async def test_a_workflow_that_does_not_exist_is_named(app: App) -> None:
    for look in (app.workflows.get_async, app.workflows.retry_async, app.workflows.cancel_async):
        with pytest.raises(WorkflowNotFound, match="no workflow 7"):
            await look(7)
    with pytest.raises(WorkflowNotFound, match="no workflow 7"):
        await app.workflows.graph_async(7)
    with pytest.raises(WorkflowNotFound, match="no signal 'x'"):
        await app.workflows.signal_async(7, "x")


async def test_the_id_of_a_group_is_no_workflow(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    wf.group("pages").add(tasks.note)
    workflow_id = await wf.defer_async()
    with pytest.raises(WorkflowNotFound):
        await app.workflows.get_async(workflow_id + 1)


async def test_workflows_are_listed_by_name_and_state_the_newest_first(
    app: App, workers: Workers, tasks: Notes
) -> None:
    ids = []
    for name, task in (("a", tasks.note), ("b", tasks.fail), ("b", tasks.note)):
        wf = app.workflow(name)
        wf.add(task)
        ids.append(await wf.defer_async())
    await workers.run()
    held = app.workflow("c", if_failed="hold")
    held.add(tasks.note, after=[held.add(tasks.fail)])
    held_id = await held.defer_async()
    await workers.run()
    running = app.workflow("c")
    running.add(tasks.note)
    running_id = await running.defer_async()

    async def listed(**options: object) -> list[int]:
        return [one.id for one in await app.workflows.list_async(**options)]  # type: ignore[arg-type]

    assert await listed() == [running_id, held_id, *reversed(ids)]
    assert await listed(limit=2, before=held_id) == [ids[2], ids[1]]
    assert await listed(name="b") == [ids[2], ids[1]]
    assert await listed(state="succeeded") == [ids[2], ids[0]]
    assert await listed(state="failed") == [ids[1]]
    assert await listed(state="held") == await listed(state="held", limit=1) == [held_id]
    assert await listed(state="running") == [running_id]
    assert await listed(state="cancelled") == []
    with pytest.raises(ValueError, match="nonsense"):
        await listed(state="nonsense")


async def test_a_wait_ends_with_the_last_step(app: App, workers: Workers, queue: Queue, tasks: Notes) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, after=[wf.add(tasks.note)])
    workflow_id = await wf.defer_async()
    with pytest.raises(WaitTimeout, match=rf"Workflow {workflow_id} has not ended within 50 ms\. It is running"):
        await app.workflows.wait_async(workflow_id, timeout=0.05)
    waiting = asyncio.create_task(app.workflows.wait_async(workflow_id, timeout=30))
    await workers.run()
    assert (await waiting).state == "succeeded"


async def test_a_wait_for_a_workflow_that_fails_returns_its_state(app: App, workers: Workers, tasks: Notes) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, after=[wf.add(tasks.fail)])
    workflow_id = await wf.defer_async()
    await workers.run()
    info = await app.workflows.wait_async(workflow_id, timeout=30)
    assert (info.state, info.counts.failed, info.counts.cancelled) == ("failed", 1, 1)


async def test_a_wait_for_a_workflow_that_is_held_says_so(app: App, workers: Workers, tasks: Notes) -> None:
    wf = app.workflow("import", if_failed="hold")
    wf.add(tasks.note, after=[wf.add(tasks.fail)])
    workflow_id = await wf.defer_async()
    await workers.run()
    with pytest.raises(WaitTimeout, match="It is held: retry its failed steps, or cancel it"):
        await app.workflows.wait_async(workflow_id, timeout=0)
    with pytest.raises(WaitTimeout, match="It is held"):
        app.workflows.wait(workflow_id, timeout=0)


@pytest.mark.parametrize("patience", [None, float("nan"), -1, "5", True])
async def test_a_wait_for_a_workflow_takes_a_number_of_seconds(app: App, patience: Any) -> None:
    """With NaN it would never end."""
    wf = app.workflow("import")
    wf.add_signal("approved")
    workflow_id = await wf.defer_async()
    with pytest.raises((TypeError, ValueError), match="timeout must be"):
        await asyncio.wait_for(app.workflows.wait_async(workflow_id, timeout=patience), 5)


async def test_a_cancelled_workflow_runs_its_callbacks_of_the_end_alone(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, name="first")
    wf.group("pages", after=[first]).add_many(tasks.note, [{"name": number} for number in range(5)])
    wf.on_success(tasks.note, name="success")
    wf.on_failure(tasks.note, name="failure")
    wf.on_end(tasks.note, name="end")
    workflow_id = await wf.defer_async()
    assert await app.workflows.cancel_async(workflow_id) == 6
    await workers.run()
    assert tasks.ran == ["end"]
    info = await app.workflows.get_async(workflow_id)
    assert (info.state, info.counts.cancelled) == ("cancelled", 6)
    assert queue.sql("SELECT finished_at IS NOT NULL FROM procrastinate_workflows WHERE id = :id", id=workflow_id)
    with pytest.raises(WorkflowEnded, match="has ended already: it is cancelled"):
        await app.workflows.cancel_async(workflow_id)


async def test_a_running_step_is_asked_to_stop(app: App, workers: Workers, queue: Queue, tasks: Notes) -> None:
    started = asyncio.Event()

    @app.task
    async def endless() -> None:
        started.set()
        await asyncio.sleep(600)

    wf = app.workflow("import")
    wf.add(tasks.note, after=[wf.add(endless)])
    workflow_id = await wf.defer_async()
    await workers.listening(queue)
    async with asyncio.timeout(30):
        await started.wait()
    assert await app.workflows.cancel_async(workflow_id, abort=True) == 2
    info = await app.workflows.wait_async(workflow_id, timeout=30)
    assert (info.state, info.counts.aborted, info.counts.cancelled) == ("cancelled", 1, 1)


async def test_steps_are_cancelled_and_asked_to_stop_while_other_tables_refer_to_their_rows(
    app: App, queue: Queue, tasks: Notes, engine: sa.Engine
) -> None:
    """A row that gets a foreign key, and a report of the running job, lock the row of the job in this way."""
    wf = app.workflow("import")
    first = wf.add(tasks.note)
    wf.add(tasks.note, after=[first])
    workflow_id = await wf.defer_async()
    queue.sql("UPDATE procrastinate_jobs SET status = 'doing', worker_id = 1 WHERE id = :id", id=first.job_id)
    with engine.begin() as other:
        other.exec_driver_sql("SELECT 1 FROM procrastinate_jobs FOR KEY SHARE")
        assert await app.workflows.cancel_async(workflow_id, abort=True) == 2
    assert queue.sql("SELECT abort_requested FROM procrastinate_jobs WHERE id = :id", id=first.job_id)


async def test_a_retry_runs_what_did_not_succeed_and_leaves_the_rest(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    broken = [True]

    @app.task(store_result=True)
    async def parse(number: int) -> int:
        tasks.ran.append(("parse", number))
        if broken and number == 1:
            raise ValueError(number)
        return number

    wf = app.workflow("import")
    pages = wf.group("pages", after=[wf.add(tasks.note, name="first")])
    pages.add_many(parse, [{"number": number} for number in range(3)])
    wf.add(tasks.total, numbers=pages.values)
    wf.on_success(tasks.note, name="success")
    wf.on_failure(tasks.note, name="failure")
    wf.on_end(tasks.note, name="end")
    workflow_id = await wf.defer_async()
    await workers.run(concurrency=1)
    assert sorted(map(str, tasks.ran[4:])) == ["end", "failure"]
    assert (await app.workflows.get_async(workflow_id)).state == "failed"
    tasks.ran.clear()
    broken.clear()
    assert await app.workflows.retry_async(workflow_id) == 4
    assert (await app.workflows.get_async(workflow_id)).state == "running"
    await workers.run(concurrency=1)
    assert tasks.ran[:2] == [("parse", 1), [0, 1, 2]]
    assert sorted(tasks.ran[2:]) == ["end", "success"]
    info = await app.workflows.get_async(workflow_id)
    assert (info.state, info.counts.succeeded, info.counts.total) == ("succeeded", 5, 5)
    assert await app.workflows.retry_async(workflow_id) == 0


async def test_a_retry_wakes_an_idle_worker(app: App, workers: Workers, queue: Queue, tasks: Notes) -> None:
    wf = app.workflow("import")
    wf.add(tasks.flaky.configure(), name="flaky")
    failing = app.workflow("import")
    step = failing.add(tasks.fail)
    workflow_id = await failing.defer_async()
    await workers.listening(queue)
    await app.workflows.wait_async(workflow_id, timeout=30)
    assert step.job_id is not None
    await app.workflows.retry_async(workflow_id)
    await queue.failed(step.job_id)
    info = await app.workflows.wait_async(workflow_id, timeout=30)
    assert (info.state, tasks.ran) == ("failed", ["failed", "failed"])


async def test_a_signal_lets_the_next_step_go_with_its_payload(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("order")
    approved = wf.add_signal("approved", after=[wf.add(tasks.note, name="asked")])
    wf.add(tasks.note, name=approved.value)
    workflow_id = await wf.defer_async()
    await workers.listening(queue)
    assert approved.job_id is not None
    await queue.succeeded(approved.job_id - 1)
    await app.workflows.signal_async(workflow_id, "approved", {"by": "Ada"})
    await app.workflows.wait_async(workflow_id, timeout=30)
    assert tasks.ran == ["asked", {"by": "Ada"}]


async def test_a_signal_may_come_before_its_turn_and_comes_once(app: App, workers: Workers, tasks: Notes) -> None:
    wf = app.workflow("order")
    approved = wf.add_signal("approved", after=[wf.add(tasks.note, name="asked")])
    wf.add(tasks.note, name=approved.value)
    workflow_id = await wf.defer_async()
    await app.workflows.signal_async(workflow_id, "approved", 1)
    with pytest.raises(WorkflowEnded, match=r"'approved' of workflow .* came before"):
        await app.workflows.signal_async(workflow_id, "approved", 2)
    with pytest.raises(WorkflowNotFound, match="no signal 'other'"):
        await app.workflows.signal_async(workflow_id, "other")
    await workers.run()
    assert sorted(map(str, tasks.ran)) == ["1", "asked"]


async def test_a_signal_of_a_transaction_that_is_rolled_back_does_not_come(
    app: App, workers: Workers, tasks: Notes, engine: sa.Engine
) -> None:
    wf = app.workflow("order")
    wf.add(tasks.note, after=[wf.add_signal("approved")])
    workflow_id = await wf.defer_async()
    with engine.connect() as connection:
        app.workflows.signal(workflow_id, "approved", connection=connection)
        connection.rollback()
    await workers.run()
    assert tasks.ran == []
    app.workflows.signal(workflow_id, "approved")
    await workers.run()
    assert tasks.ran == [None]


@pytest.mark.parametrize("has_parent", [False, True])
async def test_a_signal_that_does_not_come_in_time_fails(
    app: App, workers: Workers, queue: Queue, tasks: Notes, has_parent: bool
) -> None:
    wf = app.workflow("order")
    after = [wf.add(tasks.note, name="asked")] if has_parent else []
    approved = wf.add_signal("approved", after=after, timeout=datetime.timedelta(hours=1))
    wf.add(tasks.note, after=[approved])
    workflow_id = await wf.defer_async()
    await workers.run()
    waits = queue.sql(
        "SELECT extract(epoch FROM scheduled_at - now()) FROM procrastinate_jobs WHERE id = :id", id=approved.job_id
    )
    assert 3500 < waits < 3601
    queue.sql("UPDATE procrastinate_jobs SET scheduled_at = now() WHERE id = :id", id=approved.job_id)
    await workers.run()
    info = await app.workflows.get_async(workflow_id)
    assert (info.state, info.counts.failed, info.counts.cancelled) == ("failed", 1, 1)
    assert approved.job_id is not None
    error = (await app.job_manager.get_result_async(approved.job_id)).errors[-1]
    assert "SignalTimeout" in error.exception_class
    with pytest.raises(WorkflowEnded):
        await app.workflows.signal_async(workflow_id, "approved")


async def test_a_graph_folds_groups_and_escapes_names(app: App, workers: Workers, tasks: Notes) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, step='first"]; click <b>')
    pages = wf.group("pages", after=[first])
    pages.add_many(tasks.double, [{"number": number} for number in range(30)])
    last = wf.add(tasks.total, numbers=pages.values, step="last")
    workflow_id = await wf.defer_async()
    graph = await app.workflows.graph_async(workflow_id)
    assert [(node.name, node.is_group, node.state) for node in graph.nodes] == [
        ("pages", True, "waiting_for_steps"),
        ('first"]; click <b>', False, "ready"),
        ("last", False, "waiting_for_steps"),
    ]
    by_name = {node.name: node.key for node in graph.nodes}
    assert set(graph.edges) == {(by_name[first.name], by_name["pages"]), (by_name["pages"], by_name[last.name])}
    text = graph.mermaid()
    assert "pages (0 of 30, waiting for steps)" in text
    assert "<b>" not in text
    assert text.count('"') == 6


def test_sync_programs_have_the_same_operations(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, after=[wf.add_signal("go")])
    workflow_id = wf.defer()
    assert app.workflows.get(workflow_id).state == "running"
    assert [one.id for one in app.workflows.list("import", "running")] == [workflow_id]
    assert len(app.workflows.graph(workflow_id).nodes) == 2
    app.workflows.signal(workflow_id, "go")
    with pytest.raises(WaitTimeout):
        app.workflows.wait(workflow_id, timeout=0)
    assert app.workflows.cancel(workflow_id) == 1
    assert app.workflows.retry(workflow_id) == 1
