"""Makes PGQueuer's schema, and enqueues jobs for a drain, those of a line behind a full limit first."""

from __future__ import annotations

import asyncpg
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from benchmarks.peers import driving


async def main() -> None:
    asked = driving.request()
    connection = await asyncpg.connect(asked["url"])
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    jobs, line = asked["jobs"], asked.get("line", 0)
    if line:
        await queries.enqueue(["wait"] * line, [b""] * line, [10] * line)
    await queries.enqueue(["noop"] * jobs, [str(number).encode() for number in range(jobs)], [0] * jobs)
    await connection.close()
    driving.say("done")


driving.run(main())
