"""Runs all waiting jobs with Chancy, with the requested rate."""

from __future__ import annotations

import time

from chancy import Worker

from benchmarks.peers import driving
from benchmarks.peers.chancy_queue import WRITE_EVERY, effects, make_app, make_queue


async def main() -> None:
    asked = driving.request()
    effects.append(driving.Effects(asked["jobs"]))
    rate = {"rate_limit": asked["rate"], "rate_limit_window": 1} if "rate" in asked else {}
    async with make_app(asked["url"]) as chancy:
        await chancy.declare(make_queue(concurrency=asked["concurrency"], **rate), upsert=True)
        worker = Worker(chancy, register_signal_handlers=False)
        worker.send_outgoing_interval = WRITE_EVERY
        driving.say("ready")
        await driving.wait_for_word_async()
        started_at = time.time()
        async with worker:
            await driving.drain(effects[-1], started_at)
    driving.say("done", **effects[-1].summary())


driving.run(main())
