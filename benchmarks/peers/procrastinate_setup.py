"""Makes the schema, and defers jobs for a drain."""

from __future__ import annotations

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import make_app

_BATCH = 1000


async def main() -> None:
    asked = driving.request()
    app = make_app(asked["url"])
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        deferrer = app.configure_task(asked.get("task", "noop"))
        for first in range(0, asked["jobs"], _BATCH):
            numbers = range(first, min(first + _BATCH, asked["jobs"]))
            await deferrer.batch_defer_async(*[{"number": number} for number in numbers])
    driving.say("done")


driving.run(main())
