"""Runs one of several workers on one queue. At its end it reports which jobs it ran."""

from __future__ import annotations

import asyncio

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import WORKER_OPTIONS, make_app


async def main() -> None:
    asked = driving.request()
    numbers: list[int] = []

    async def noop(number: int) -> None:
        numbers.append(number)

    app = make_app(asked["url"])
    app.task(name="noop")(noop)
    async with app.open_async():
        driving.say("ready")
        await driving.wait_for_word_async()
        worker = asyncio.create_task(app.run_worker_async(**WORKER_OPTIONS, concurrency=100))
        await driving.wait_for_word_async()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    driving.say("done", numbers=numbers)


driving.run(main())
