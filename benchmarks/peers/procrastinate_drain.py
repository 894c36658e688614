"""Runs all waiting jobs with a worker."""

from __future__ import annotations

import asyncio
import time

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import WORKER_OPTIONS, add_noop_tasks, make_app


async def main() -> None:
    asked = driving.request()
    effects = driving.Effects(asked["jobs"])
    app = make_app(asked["url"])
    add_noop_tasks(app, effects)
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
