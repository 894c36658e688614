"""Measures the time of a worker from its start to its first job, and from the stop request to its end."""

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
        worker = asyncio.create_task(app.run_worker_async(**WORKER_OPTIONS))
        await driving.drain(effects, started_at)
        asked_at = time.time()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        stopped_at = time.time()
    driving.say("done", start=effects.last_at - started_at, stop=stopped_at - asked_at, **effects.summary())


driving.run(main())
