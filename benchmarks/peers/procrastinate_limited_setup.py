"""Makes the schema, and defers jobs of a task with a limit for a drain."""

from __future__ import annotations

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_limited_queue import make_limited_app

_BATCH = 1000


async def main() -> None:
    asked = driving.request()
    app = make_limited_app(asked["url"], driving.Effects(asked["jobs"]))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for first in range(0, asked["jobs"], _BATCH):
            numbers = range(first, min(first + _BATCH, asked["jobs"]))
            await app.tasks[asked["task"]].batch_defer_async(*[{"number": number} for number in numbers])
    driving.say("done")


driving.run(main())
