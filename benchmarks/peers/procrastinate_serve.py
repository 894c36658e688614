"""Runs a worker that reports when each job of the timed task started."""

from __future__ import annotations

import asyncio

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import WORKER_OPTIONS, add_timed_task, make_app

_SETTLED = 1.5
"""Seconds after which a worker has started and listens."""


async def main() -> None:
    asked = driving.request()
    starts: list[tuple[int, float]] = []
    app = make_app(asked["url"])
    add_timed_task(app, starts)
    async with app.open_async():
        worker = asyncio.create_task(app.run_worker_async(**WORKER_OPTIONS, **asked.get("options", {})))
        await asyncio.sleep(_SETTLED)
        driving.say("ready")
        await driving.wait_for_word_async()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    driving.say("done", starts=starts)


driving.run(main())
