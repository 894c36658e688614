"""Defers and runs jobs in one process, as a web process with a worker inside, and reports the time to each start."""

from __future__ import annotations

import asyncio
import random
import time

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import WORKER_OPTIONS, add_timed_task, make_app

_SETTLED = 1.5
"""Seconds after which the worker has started and listens."""
_ENDED = 1.0


async def main() -> None:
    asked = driving.request()
    starts: list[tuple[int, float]] = []
    deferred: list[float] = []
    app = make_app(asked["url"])
    add_timed_task(app, starts)
    async with app.open_async():
        worker = asyncio.create_task(app.run_worker_async(**WORKER_OPTIONS, **asked["options"]))
        await asyncio.sleep(_SETTLED)
        driving.say("ready")
        await driving.wait_for_word_async()
        for number in range(asked["jobs"]):
            deferred.append(time.time())
            await app.tasks["timed"].defer_async(number=number)
            await asyncio.sleep(asked["gap"] * (0.5 + random.random()))
        await asyncio.sleep(_ENDED)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    driving.say("done", starts=starts, deferred=deferred)


driving.run(main())
