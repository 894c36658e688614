"""Run jobs that do nothing: ``python -m tests.worker.hot_program URL HOW NUMBER BACKLOG``.

``HOW`` is ``lock``, ``limit`` or ``free``. Works with the package of any release. Prints the processor time that a
job takes in PostgreSQL, in microseconds, and the number of jobs a second.
"""

from __future__ import annotations

import asyncio
import pathlib
import sys
import time
from typing import Any

import sqlalchemy as sa

import procrastinate

BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"


def options_of(how: str) -> dict[str, Any]:
    """Return the options of the task."""
    if how == "limit":
        return {"limit": procrastinate.Limit("hot", concurrency=1)}
    return {"lock": "hot"} if how == "lock" else {}


def nanoseconds(connection: sa.Connection) -> int:
    """Return the time for which the backends of the database have been on a processor."""
    pids = connection.exec_driver_sql(BACKENDS).scalars()
    return sum(int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids)


async def main(url: str, how: str, number: str, backlog: str) -> None:
    """Defer ``backlog`` jobs, run ``number`` of them, and measure those after the first tenth."""
    app = procrastinate.App(connector=url)
    last = int(number) - 1
    times: list[tuple[int, float]] = []
    ended = asyncio.Event()
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:

        @app.task(**options_of(how))
        async def work(job: int) -> None:
            if job in (last // 10, last):
                times.append((nanoseconds(connection), time.perf_counter()))
            if job == last:
                ended.set()

        async with app.open_async():
            for start in range(0, int(backlog), 5000):
                await work.batch_defer_async(*({"job": job} for job in range(start, min(start + 5000, int(backlog)))))
            worker = asyncio.create_task(app.run_worker_async(concurrency=10))
            await ended.wait()
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
    engine.dispose()
    (work_before, began), (work_after, ended_at) = times
    measured = last - last // 10
    print((work_after - work_before) / 1000 / measured, measured / (ended_at - began))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
