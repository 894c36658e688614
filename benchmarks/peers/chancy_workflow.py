"""Runs one chord or one chain of Chancy, with a worker in the same event loop."""

from __future__ import annotations

import time
from typing import Any

from chancy import Chancy, Queue, Worker, job
from chancy.plugins.leadership import ImmediateLeadership
from chancy.plugins.workflow import Workflow, WorkflowPlugin

from benchmarks.peers import driving

_WARM_UP = 10
_WRITE_EVERY = 0.001
"""Seconds between two writes of outcomes. Its default is a second, which each step of a chain would wait."""
runs: list[driving.Effects] = []


@job()  # type: ignore[untyped-decorator]
async def noop(*, number: int) -> None:
    """Count the run."""
    runs[-1].add(number)


def build(shape: str, size: int) -> Any:
    """Return a workflow of no-ops: 1 step, ``size`` steps and 1 step, or ``size`` steps one after the other."""
    workflow = Workflow(shape)
    workflow.add("0", noop.job.with_kwargs(number=0))
    if shape == "chord":
        parts = [(str(number), noop.job.with_kwargs(number=number)) for number in range(1, size + 1)]
        workflow.add_group(parts, ["0"])
        workflow.add(str(size + 1), noop.job.with_kwargs(number=size + 1), [name for name, _ in parts])
        return workflow
    for number in range(1, size):
        workflow.add(str(number), noop.job.with_kwargs(number=number), [str(number - 1)])
    return workflow


async def main() -> None:
    asked = driving.request()
    shape, size = asked["shape"], asked["size"]
    plugins = [ImmediateLeadership(), WorkflowPlugin()]
    async with Chancy(asked["url"], plugins=plugins, no_default_plugins=True) as chancy:
        await chancy.migrate()
        options = {"concurrency": 100, "executor": Chancy.Executor.Async, "polling_interval": 1, "eager_polling": True}
        await chancy.declare(Queue("default", **options))
        worker = Worker(chancy, register_signal_handlers=False)
        worker.send_outgoing_interval = _WRITE_EVERY
        async with worker:
            seconds = 0.0
            for count in (_WARM_UP, size):
                runs.append(driving.Effects(count + 2 if shape == "chord" else count))
                if count == size:
                    driving.say("ready")
                    await driving.wait_for_word_async()
                began = time.perf_counter()
                await WorkflowPlugin.push(chancy, build(shape, count))
                await runs[-1].wait()
                seconds = time.perf_counter() - began
    driving.say("done", seconds=seconds, **runs[-1].summary())


driving.run(main())
