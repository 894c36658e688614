"""Runs jobs for a long time, deletes old ones, and reports the pick-up times of each period when the suite asks."""

from __future__ import annotations

import asyncio
import math
import time

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import WORKER_OPTIONS, make_app

_STEP = math.log(1.02)
_CLASSES = 1000
"""Classes of times, from a hundredth of a millisecond to over an hour. Their memory does not grow."""
_SHORTEST = 1e-5


class PickUps:
    """The times from the defer of each job to its start, as numbers in classes that are 2 % wide."""

    def __init__(self) -> None:
        self._counts = [0] * _CLASSES

    def add(self, seconds: float) -> None:
        """Count a time."""
        place = int(math.log(max(seconds, _SHORTEST) / _SHORTEST) / _STEP)
        self._counts[min(place, _CLASSES - 1)] += 1

    def percentile(self, part: float) -> float:
        """Return the milliseconds that this fraction of all times does not exceed, or 0 without any."""
        left = math.ceil(part * sum(self._counts))
        for place, count in enumerate(self._counts):
            left -= count
            if count and left <= 0:
                return _SHORTEST * math.exp((place + 1) * _STEP) * 1000
        return 0.0

    def take(self) -> dict[str, float]:
        """Return the number of times with their median and 99th percentile, and begin again."""
        taken = {"runs": sum(self._counts), "p50": self.percentile(0.5), "p99": self.percentile(0.99)}
        self._counts = [0] * _CLASSES
        return taken


async def main() -> None:
    asked = driving.request()
    effects = driving.Effects(asked["jobs"])
    pick_ups = PickUps()
    app = make_app(asked["url"])

    @app.task(name="soak")
    async def soak(number: int, at: float) -> None:
        pick_ups.add(time.time() - at)
        effects.add(number)

    @app.periodic(cron="* * * * * */10")
    @app.task(name="retain")
    async def retain(timestamp: int) -> None:
        await app.job_manager.delete_old_jobs(nb_hours=asked["kept_seconds"] / 3600)

    async with app.open_async():
        worker = asyncio.create_task(app.run_worker_async(**WORKER_OPTIONS, concurrency=100))
        driving.say("ready")
        for _ in range(asked["reports"]):
            await driving.wait_for_word_async()
            driving.say("report", **pick_ups.take())
        await driving.wait_for_word_async()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    driving.say("done", **effects.summary())


driving.run(main())
