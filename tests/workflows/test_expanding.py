"""Running steps add steps, and the short forms build the usual shapes."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

import procrastinate
from procrastinate import JobContext
from procrastinate.app import App
from procrastinate.exceptions import InvalidWorkflow, WorkflowEnded
from tests.worker.running import Queue, Workers
from tests.workflows.tasks import Notes


def declare_walk(app: App, ran: list[Any]) -> Any:
    """Declare a task that adds two steps of itself for each level."""

    @app.task(pass_context=True, name="walk")
    async def walk(context: JobContext, depth: int) -> None:
        for _ in range(2 if depth else 0):
            await context.workflow.add_async(app.tasks["walk"], depth=depth - 1, expands=True)
        ran.append(depth)

    return walk


async def test_the_next_step_waits_for_all_that_an_expanding_step_adds(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    walk = declare_walk(app, tasks.ran)
    wf = app.workflow("site")
    wf.add(tasks.note, name="last", after=[wf.add(walk, depth=3, expands=True)])
    workflow_id = await wf.defer_async()
    await workers.run(concurrency=4)
    assert tasks.ran[-1] == "last"
    assert sorted(tasks.ran[:-1]) == [0] * 8 + [1] * 4 + [2] * 2 + [3]
    assert (await app.workflows.get_async(workflow_id)).counts.succeeded == 16


async def test_a_failure_deep_in_an_expansion_reaches_the_next_step(app: App, workers: Workers, tasks: Notes) -> None:
    @app.task(pass_context=True)
    async def grow(context: JobContext) -> None:
        await context.workflow.add_async(tasks.fail)

    wf = app.workflow("site")
    wf.add(tasks.note, name="last", after=[wf.add(grow, expands=True)])
    workflow_id = await wf.defer_async()
    await workers.run()
    assert tasks.ran == ["failed"]
    assert (await app.workflows.get_async(workflow_id)).state == "failed"


async def test_added_steps_wait_for_each_other_and_take_values(app: App, workers: Workers, tasks: Notes) -> None:
    @app.task(pass_context=True)
    async def grow(context: JobContext) -> None:
        one = await context.workflow.add_async(tasks.double, number=1)
        many = await context.workflow.add_many_async(tasks.note, [{"name": "a"}, {"name": "a"}], after=[one])
        await context.workflow.add_async(tasks.note, name=one.value, after=many)

    wf = app.workflow("site")
    wf.add(grow)
    await wf.defer_async()
    await workers.run()
    assert tasks.ran == [1, "a", "a", 2]


async def test_steps_are_added_with_the_transaction_that_ends_the_step(
    app: App, workers: Workers, queue: Queue, tasks: Notes, database_url: str
) -> None:
    engine = create_async_engine(database_url)
    attempts: list[int] = []

    @app.task(pass_context=True, retry=1)
    async def grow(context: JobContext) -> None:
        attempts.append(1)
        async with context.transaction(engine) as connection:
            await context.workflow.add_async(tasks.note, name="added", connection=connection)
            if len(attempts) == 1:
                raise ValueError("Roll back")

    wf = app.workflow("site")
    wf.add(tasks.note, name="last", after=[wf.add(grow, expands=True)])
    await wf.defer_async()
    await workers.run()
    await engine.dispose()
    assert tasks.ran == ["added", "last"]


async def test_a_step_reads_the_value_of_another_by_its_name(app: App, workers: Workers, tasks: Notes) -> None:
    @app.task(pass_context=True)
    def look(context: JobContext) -> None:
        tasks.ran.append(context.workflow.value("doubled"))
        with pytest.raises(InvalidWorkflow, match="No step 'other'"):
            context.workflow.value("other")

    wf = app.workflow("site")
    wf.add(look, after=[wf.add(tasks.double, number=4, step="doubled")])
    with app.open():
        await wf.defer_async()
        await workers.run()
    assert tasks.ran == [4, 8]


async def test_a_job_outside_of_workflows_has_none(app: App, workers: Workers, queue: Queue) -> None:
    @app.task(pass_context=True)
    async def look(context: JobContext) -> None:
        with pytest.raises(InvalidWorkflow, match="is no step of a workflow"):
            context.workflow  # noqa: B018

    job_id = await look.defer_async()
    await workers.run()
    await queue.succeeded(job_id)


async def test_nothing_is_added_to_a_group_that_has_ended(app: App, workers: Workers, tasks: Notes) -> None:
    contexts: list[JobContext] = []

    @app.task(pass_context=True)
    async def keep(context: JobContext) -> None:
        contexts.append(context)

    wf = app.workflow("site")
    wf.add(keep)
    await wf.defer_async()
    await workers.run()
    with pytest.raises(WorkflowEnded):
        await contexts[0].workflow.add_async(tasks.note)


async def test_a_chain_runs_its_calls_in_order(app: App, workers: Workers, tasks: Notes) -> None:
    await procrastinate.chain(*(tasks.note.call(name=number) for number in range(4))).defer_async()
    await workers.run(concurrency=4)
    assert tasks.ran == [0, 1, 2, 3]


async def test_a_chord_ends_with_its_last_call(app: App, workers: Workers, tasks: Notes) -> None:
    pages = procrastinate.group(*(tasks.note.call(name=number) for number in range(4)))
    await procrastinate.chord(pages, tasks.note.call(name="last")).defer_async()
    await workers.run(concurrency=4)
    assert sorted(tasks.ran[:4]) == [0, 1, 2, 3]
    assert tasks.ran[4:] == ["last"]


@pytest.mark.parametrize("shape", [procrastinate.chain, procrastinate.group])
def test_a_shape_without_calls_is_refused(app: App, tasks: Notes, shape: Any) -> None:
    with pytest.raises(InvalidWorkflow, match="needs a call"):
        shape()
    with pytest.raises(InvalidWorkflow, match=r"write task.call\(...\)"):
        shape(tasks.note)


def test_a_shape_that_gets_what_celery_would_take_says_what_to_write(app: App, tasks: Notes) -> None:
    calls = [tasks.note.call(name=1), tasks.note.call(name=2)]
    for shape in (procrastinate.chain, procrastinate.group):
        for many in (calls, iter(calls)):
            with pytest.raises(InvalidWorkflow, match=rf"write {shape.__name__}\(\*calls\)"):
                shape(many)  # type: ignore[arg-type]
        with pytest.raises(InvalidWorkflow, match=r"<Workflow group: 2 steps>: build .* with app\.workflow\(\)"):
            shape(procrastinate.group(*calls))  # type: ignore[arg-type]
    with pytest.raises(InvalidWorkflow, match=r"of type list: write chord\(group\(\.\.\.\), task\.call"):
        procrastinate.chord(calls, tasks.note.call())  # type: ignore[arg-type]


def test_an_uncommitted_addition_keeps_its_group_open(app: App, tasks: Notes, engine: sa.Engine) -> None:
    """The session that adds holds the row of the group, and the worker passes over it."""
    from procrastinate import core
    from procrastinate.jobs import Job

    wf = app.workflow("site")
    step = wf.add(tasks.note)
    workflow_id = wf.defer()
    assert step.job_id is not None
    job = Job(id=1, queue="default", lock=None, queueing_lock=None, task_name="t", workflow_id=workflow_id)
    with engine.connect() as connection:
        app.workflow_of(job).add(tasks.note, connection=connection)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
            core.finish_job_by_id(other, step.job_id, status=core.Status.SUCCEEDED, delete=False)
        with engine.begin() as other:
            assert core.resolve_arrivals(other).left
        connection.commit()
    with engine.begin() as other:
        assert core.resolve_arrivals(other).finished == 0
    assert app.workflows.get(workflow_id).state == "running"
