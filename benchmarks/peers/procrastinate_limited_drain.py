"""Runs all waiting jobs of the tasks with limits with a worker."""

from __future__ import annotations

import asyncio
import time

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_limited_queue import make_limited_app
from benchmarks.peers.procrastinate_queue import WORKER_OPTIONS


async def main() -> None:
    asked = driving.request()
    effects = driving.Effects(asked["jobs"])
    app = make_limited_app(asked["url"], effects)
    async with app.open_async():
        driving.say("ready")
        await driving.wait_for_word_async()
        started_at = time.time()
        worker = asyncio.create_task(app.run_worker_async(**WORKER_OPTIONS, **asked.get("options", {})))
        await driving.drain(effects, started_at)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    driving.say("done", **effects.summary())


driving.run(main())
