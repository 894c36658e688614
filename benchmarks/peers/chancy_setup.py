"""Makes Chancy's schema, and pushes jobs for a drain, those of a line behind a rate first."""

from __future__ import annotations

from benchmarks.peers import driving
from benchmarks.peers.chancy_queue import LINE, make_app, make_queue, noop, wait


async def main() -> None:
    asked = driving.request()
    async with make_app(asked["url"]) as chancy:
        await chancy.migrate()
        line = [wait.job.with_queue(LINE)] * asked.get("line", 0)
        if line:
            await chancy.declare(make_queue(LINE, rate_limit=1, rate_limit_window=24 * 3600))
        async for _ in chancy.push_many(line):
            pass
        async for _ in chancy.push_many([noop.job.with_kwargs(number=number) for number in range(asked["jobs"])]):
            pass
    driving.say("done")


driving.run(main())
