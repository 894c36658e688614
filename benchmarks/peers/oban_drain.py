"""Runs all waiting jobs with Oban for Python."""

from __future__ import annotations

import time
from typing import Any

from oban import Oban, worker

from benchmarks.peers import driving

asked = driving.request()
effects = driving.Effects(asked["jobs"])


@worker(queue="default")
class Noop:
    """Counts its runs."""

    async def process(self, job: Any) -> None:
        effects.add(job.args["number"])


async def main() -> None:
    pool = await Oban.create_pool(dsn=asked["url"], min_size=2, max_size=10)
    oban = Oban(pool=pool, queues={})
    await oban.start()
    driving.say("ready")
    await driving.wait_for_word_async()
    started_at = time.time()
    await oban.start_queue(queue="default", limit=asked["concurrency"])
    await driving.drain(effects, started_at)
    await oban.stop()
    await pool.close()
    driving.say("done", **effects.summary())


driving.run(main())
