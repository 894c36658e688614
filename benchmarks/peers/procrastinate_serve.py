"""Runs a worker, or several in one process, and reports when each job of the timed task started."""

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
        options = {**WORKER_OPTIONS, **asked.get("options", {})}
        workers = [asyncio.create_task(app.run_worker_async(**options)) for _ in range(asked.get("workers", 1))]
        await asyncio.sleep(_SETTLED)
        driving.say("ready")
        await driving.wait_for_word_async()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    driving.say("done", starts=starts)


driving.run(main())
