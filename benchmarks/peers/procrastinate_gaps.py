"""Measures the gap between two jobs with one lock, and between the scheduled time of a retry and its start.

The worker polls only once a minute, so that any earlier start comes from a notification.
"""

from __future__ import annotations

import asyncio
import itertools
import time

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import WORKER_OPTIONS, make_app
from procrastinate import App, RetryStrategy

_RETRY_WAIT = 1


def add_tasks(app: App, spans: list[tuple[float, float]], retries: dict[int, list[float]]) -> None:
    """Add a task with a lock, and a task that succeeds at its second attempt."""

    async def locked(number: int) -> None:
        began = time.time()
        await asyncio.sleep(0.01)
        spans.append((began, time.time()))

    async def flaky(number: int) -> None:
        retries.setdefault(number, []).append(time.time())
        if len(retries[number]) == 1:
            raise ValueError("the first attempt fails")

    app.task(name="locked", lock="one")(locked)
    app.task(name="flaky", retry=RetryStrategy(max_attempts=2, wait=_RETRY_WAIT))(flaky)


async def main() -> None:
    asked = driving.request()
    jobs = asked["jobs"]
    spans: list[tuple[float, float]] = []
    retries: dict[int, list[float]] = {}
    app = make_app(asked["url"])
    add_tasks(app, spans, retries)
    options = {**WORKER_OPTIONS, "concurrency": 10, "fetch_job_polling_interval": 60.0}
    async with app.open_async():
        worker = asyncio.create_task(app.run_worker_async(**options))
        await asyncio.sleep(1)
        driving.say("ready")
        await driving.wait_for_word_async()
        await app.tasks[asked["task"]].batch_defer_async(*[{"number": number} for number in range(jobs)])
        deadline = time.time() + 50
        while time.time() < deadline:
            if len(spans) == jobs or sum(len(attempts) == 2 for attempts in retries.values()) == jobs:
                break
            await asyncio.sleep(0.05)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    freed = [after[0] - before[1] for before, after in itertools.pairwise(spans)]
    came_due = [
        again - first - _RETRY_WAIT for first, again in (times for times in retries.values() if len(times) == 2)
    ]
    driving.say("done", freed=freed, came_due=came_due)


driving.run(main())
