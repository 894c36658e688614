"""Makes Oban's schema, and enqueues jobs for a drain."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

from oban import Oban, worker

from benchmarks.peers import driving


@worker(queue="default")
class Noop:
    """Its jobs are drained by a worker of the same name."""

    async def process(self, job: object) -> None: ...


async def main() -> None:
    asked = driving.request()
    command = pathlib.Path(sys.executable).with_name("oban")
    subprocess.run([command, "install", "--dsn", asked["url"]], check=True, capture_output=True)  # noqa: ASYNC221
    pool = await Oban.create_pool(dsn=asked["url"], min_size=1, max_size=4)
    oban = Oban(pool=pool, queues={})
    await oban.start()
    new: Any = Noop.new  # type: ignore[attr-defined]  # the decorator adds it
    await oban.enqueue_many([new({"number": number}) for number in range(asked["jobs"])])
    await oban.stop()
    await pool.close()
    driving.say("done")


driving.run(main())
