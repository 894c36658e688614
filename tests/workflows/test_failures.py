"""What a step that does not succeed does to the rest: each end, with each need, with each rule of the workflow."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from procrastinate import JobContext
from procrastinate.app import App
from tests.worker.running import Queue, Workers
from tests.workflows.tasks import Notes

ENDS = ("succeeded", "failed", "cancelled", "aborted", "deleted")
NEEDS = ("success", "end")
RULES = ("cancel", "hold")


def outcome(end: str, needs: str, if_failed: str) -> tuple[str, set[str], str | None]:
    """Return the state of the workflow, the callbacks that run, and how the step ends that needs the other."""
    runs = end == "succeeded" or needs == "end"
    if not runs and if_failed == "hold":
        return "held", set(), "todo"
    state = "succeeded" if end == "succeeded" else "failed"
    callback = "success" if end == "succeeded" else "failure"
    return state, {callback, "end"}, "succeeded" if runs else "cancelled"


class Stage:
    """Stores a workflow whose first step is alone, or was added by a step of a group, and lets the first step end."""

    def __init__(self, app: App, workers: Workers, queue: Queue, tasks: Notes) -> None:
        self.app, self.workers, self.queue, self.tasks = app, workers, queue, tasks
        self.started = asyncio.Event()
        self.first: list[Any] = []
        self.ends = app.task(name="ends", queue="later")(self._end)
        self.grow = app.task(name="grow", pass_context=True)(self._grow)

    async def _end(self, end: str) -> None:
        self.started.set()
        if end == "failed":
            raise ValueError(end)
        if end == "aborted":
            await asyncio.sleep(600)

    async def _grow(self, context: JobContext, end: str) -> None:
        self.first.append(await context.workflow.add_async(self.ends, end=end))

    async def store(self, end: str, needs: Any, if_failed: Any, *, is_nested: bool) -> tuple[int, int]:
        """Return the ids of the workflow and of the job of the step that follows."""
        wf = self.app.workflow("table", if_failed=if_failed)
        if is_nested:
            followed: Any = wf.group("outer")
            followed.add(self.grow, end=end, expands=True)
        else:
            followed = wf.add(self.ends, end=end)
            self.first.append(followed)
        second = wf.add(self.tasks.note, name="second", after=[followed], needs=needs)
        for name, callback in (("success", wf.on_success), ("failure", wf.on_failure), ("end", wf.on_end)):
            callback(self.tasks.note, name=name)
        workflow_id = await wf.defer_async()
        assert second.job_id is not None
        return workflow_id, second.job_id

    async def run(self, end: str) -> None:
        """Run all but the first step, end that one, and run what follows."""
        await self.workers.run(queues=["default"])
        (first,) = self.first
        if end == "cancelled":
            await self.app.job_manager.cancel_job_by_id_async(first.job_id)
        elif end == "deleted":
            self.queue.sql("DELETE FROM procrastinate_jobs WHERE id = :id", id=first.job_id)
        elif end == "aborted":
            running = asyncio.create_task(self.workers.run())
            await self.started.wait()
            await self.app.job_manager.cancel_job_by_id_async(first.job_id, abort=True)
            await running
        await self.workers.run()


@pytest.mark.parametrize("is_nested", [False, True], ids=["step", "group in a group"])
@pytest.mark.parametrize(("end", "needs", "if_failed"), list(itertools.product(ENDS, NEEDS, RULES)))
async def test_each_end_has_its_effect_on_what_follows_and_on_the_callbacks(
    app: App, workers: Workers, queue: Queue, tasks: Notes, end: str, needs: str, if_failed: str, is_nested: bool
) -> None:
    stage = Stage(app, workers, queue, tasks)
    workflow_id, second = await stage.store(end, needs, if_failed, is_nested=is_nested)
    await stage.run(end)
    state, callbacks, second_ends = outcome(end, needs, if_failed)
    assert (await app.workflows.get_async(workflow_id)).state == state
    assert queue.status(second) == second_ends
    assert set(tasks.ran) - {"second"} == callbacks
    assert len(tasks.ran) == len(set(tasks.ran))
