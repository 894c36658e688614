"""Runs all waiting jobs with Awa. Its worker already runs when the queue resumes and the clock starts."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.peers import driving
from benchmarks.peers.awa_queue import QUEUE, Noop, make_client


async def main() -> None:
    asked = driving.request()
    effects = driving.Effects(asked["jobs"])
    client = make_client(asked["url"])

    async def noop(job: Any) -> None:
        effects.add(job.args.number)

    client.task(Noop, queue=QUEUE)(noop)
    await client.start([(QUEUE, asked["concurrency"])])
    await asyncio.sleep(1.5)
    driving.say("ready")
    await driving.wait_for_word_async()
    started_at = time.time()
    await client.resume_queue(QUEUE)
    await driving.drain(effects, started_at)
    await client.shutdown()
    driving.say("done", **effects.summary())


driving.run(main())
