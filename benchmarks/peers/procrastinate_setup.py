"""Makes the schema, and defers jobs for a drain, without locks or on a number of locks in turn."""

from __future__ import annotations

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import make_app

_BATCH = 1000


async def main() -> None:
    asked = driving.request()
    app = make_app(asked["url"])
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        task, locks = asked.get("task", "noop"), asked.get("locks", 0)
        if locks:
            for number in range(asked["jobs"]):
                await app.configure_task(task, lock=f"lock {number % locks}").defer_async(number=number)
            driving.say("done")
            return
        deferrer = app.configure_task(task)
        for first in range(0, asked["jobs"], _BATCH):
            numbers = range(first, min(first + _BATCH, asked["jobs"]))
            await deferrer.batch_defer_async(*[{"number": number} for number in numbers])
    driving.say("done")


driving.run(main())
