"""Makes Awa's schema, and enqueues jobs for a drain.

A worker must start once first. Otherwise the jobs go where its newest storage does not look.
"""

from __future__ import annotations

import asyncio

from benchmarks.peers import driving
from benchmarks.peers.awa_queue import QUEUE, Noop, make_client


async def main() -> None:
    asked = driving.request()
    client = make_client(asked["url"])
    await client.migrate()

    async def noop(job: object) -> None:
        raise AssertionError("the queue is paused")

    client.task(Noop, queue=QUEUE)(noop)
    await client.start([(QUEUE, 1)])
    await asyncio.sleep(1.5)
    await client.pause_queue(QUEUE)
    await asyncio.sleep(0.5)
    await client.enqueue_many_copy([Noop(number) for number in range(asked["jobs"])], queue=QUEUE)
    await client.shutdown()
    driving.say("done")


driving.run(main())
