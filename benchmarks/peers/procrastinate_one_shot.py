"""Workers that do not wait, in an open app: some on an empty queue, and one that runs what is deferred before."""

from __future__ import annotations

import time

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import WORKER_OPTIONS, add_noop_tasks, make_app

_WARM_UPS = 3


async def main() -> None:
    asked = driving.request()
    jobs = asked["jobs"]
    effects = driving.Effects(jobs)
    app = make_app(asked["url"])
    add_noop_tasks(app, effects)
    options = {**WORKER_OPTIONS, "wait": False, **asked.get("options", {})}
    seconds = []
    async with app.open_async():
        driving.say("ready")
        await driving.wait_for_word_async()
        for _ in range(_WARM_UPS + asked["times"]):
            began = time.perf_counter()
            await app.run_worker_async(**options)
            seconds.append(time.perf_counter() - began)
        await app.tasks["noop"].batch_defer_async(*[{"number": number} for number in range(jobs)])
        began = time.perf_counter()
        await app.run_worker_async(**options)
        ramp_up = time.perf_counter() - began
    driving.say("done", empty=seconds[_WARM_UPS:], ramp_up=ramp_up, **effects.summary())


driving.run(main())
