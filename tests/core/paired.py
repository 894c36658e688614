"""The same operation on two databases in turns: with nothing in the way, and behind what should not matter."""

from __future__ import annotations

import asyncio
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate import App
from tests.worker.running import NEVER, connector_for, happens

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
SAMPLES = 400 if LONG else 40
MORE_TIME = 1.1 if LONG else 2.0
"""How much longer something may take by the clock. Few samples on a busy machine say less."""
MORE_WORK = 1.1
"""How much more time of the processor something may take. Other programs on the machine hardly change it."""
_TOGETHER = 5
"""How many calls are measured as one: the kernel counts coarsely."""

Times = tuple[list[float], list[float]]


def processor_seconds(pid: int) -> float:
    """Return for how long a process has been on a processor."""
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def processor_times(connections: Sequence[sa.Connection], call: Callable[[sa.Connection], object]) -> Times:
    """Return for how long the servers of both connections work on a call, which is rolled back."""
    took: Times = ([], [])
    pids = [connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for connection in connections]
    for _ in range(SAMPLES):
        for connection, pid, times in zip(connections, pids, took, strict=True):
            before = processor_seconds(pid)
            for _ in range(_TOGETHER):
                call(connection)
                connection.rollback()
            times.append((processor_seconds(pid) - before) / _TOGETHER)
    return took


async def pickup_times(urls: Sequence[str], **options: Any) -> Times:
    """Return for how long a job waits for a worker that is idle, on both databases."""
    apps = [App(connector=connector_for(url)) for url in urls]
    started: list[asyncio.Event] = []

    async def work() -> None:
        started[-1].set()

    for app in apps:
        app.task(name="work", **options)(work)
    took: Times = ([], [])
    async with apps[0].open_async(), apps[1].open_async():
        workers = [app.make_worker(fetch_job_polling_interval=NEVER, install_signal_handlers=False) for app in apps]
        running = [asyncio.create_task(worker.run()) for worker in workers]
        for number in range(SAMPLES + 5):
            for app, times in zip(apps, took, strict=True):
                started.append(asyncio.Event())
                start = time.perf_counter()
                await app.tasks["work"].defer_async()
                await happens(started[-1])
                if number >= 5:  # the first ones wait for the workers' starts
                    times.append(time.perf_counter() - start)
                await asyncio.sleep(0.02)
        for worker in workers:
            worker.stop()
        await asyncio.gather(*running)
    return took


def compare(what: str, took: Times, at_most: float) -> None:
    """Check that something takes not much longer behind what is in the way."""
    without, behind = (statistics.quantiles(times, n=4)[0] for times in took)  # other programs delay the rest
    print(f"{what}: {without * 1000:.2f} ms without anything in the way, {behind * 1000:.2f} ms behind it")
    assert behind <= without * at_most
