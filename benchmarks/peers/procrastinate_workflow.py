"""Runs one workflow, a chord or a chain, with a worker that waits for it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import WORKER_OPTIONS, make_app
from procrastinate import App

_WARM_UP = 10


def build(app: App, shape: str, size: int) -> Any:
    """Return a workflow of no-ops: 1 step, ``size`` steps and 1 step, or ``size`` steps one after the other."""
    wf = app.workflow(shape)
    first = wf.add(app.tasks["noop"], number=0)
    if shape == "chord":
        parts = wf.group("parts", after=[first])
        parts.add_many(app.tasks["noop"], [{"number": number} for number in range(1, size + 1)])
        wf.add(app.tasks["noop"], number=size + 1, after=[parts])
        return wf
    for number in range(1, size):
        first = wf.add(app.tasks["noop"], number=number, after=[first])
    return wf


async def main() -> None:
    asked = driving.request()
    shape, size = asked["shape"], asked["size"]
    app = make_app(asked["url"])
    runs: list[driving.Effects] = []

    async def run(number: int) -> None:
        runs[-1].add(number)

    app.task(name="noop")(run)
    async with app.open_async():
        worker = asyncio.create_task(app.run_worker_async(**WORKER_OPTIONS, concurrency=100))
        seconds = 0.0
        for count in (_WARM_UP, size):
            runs.append(driving.Effects(count + 2 if shape == "chord" else count))
            if count == size:
                driving.say("ready")
                await driving.wait_for_word_async()
            began = time.perf_counter()
            await build(app, shape, count).defer_async()
            await runs[-1].wait()
            seconds = time.perf_counter() - began
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    driving.say("done", seconds=seconds, **runs[-1].summary())


driving.run(main())
