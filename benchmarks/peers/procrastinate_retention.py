"""Deletes old finished jobs."""

from __future__ import annotations

import time

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import make_app


async def main() -> None:
    asked = driving.request()
    app = make_app(asked["url"])
    async with app.open_async():
        driving.say("ready")
        await driving.wait_for_word_async()
        began = time.time()
        await app.job_manager.delete_old_jobs(nb_hours=24)
        seconds = time.time() - began
    driving.say("done", seconds=seconds)


driving.run(main())
