"""Runs all waiting jobs with PGQueuer on asyncpg, its fastest driver, with the requested batch size."""

from __future__ import annotations

import asyncio
import datetime
import time

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job

from benchmarks.peers import driving


async def main() -> None:
    asked = driving.request()
    effects = driving.Effects(asked["jobs"])
    connection = await asyncpg.connect(asked["url"])
    queue = PgQueuer(AsyncpgDriver(connection))

    async def noop(job: Job) -> None:
        effects.add(int(job.payload))

    limited = {"concurrency_limit": asked["limit"]} if "limit" in asked else {}
    queue.entrypoint("noop", **limited)(noop)
    drained = asyncio.Event()

    async def wait(job: Job) -> None:
        await drained.wait()

    if asked.get("has_line"):
        queue.entrypoint("wait", concurrency_limit=1)(wait)
    driving.say("ready")
    await driving.wait_for_word_async()
    started_at = time.time()
    waiting = datetime.timedelta(seconds=30)
    worker = asyncio.create_task(queue.run(batch_size=asked["batch"], dequeue_timeout=waiting))
    await driving.drain(effects, started_at)
    queue.shutdown.set()
    drained.set()
    await worker
    driving.say("done", **effects.summary())


driving.run(main())
