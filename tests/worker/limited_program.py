"""A worker of tasks with limits, for tests that kill it: ``python -m tests.worker.limited_program URL SLOTS TIMEOUT``.

``TIMEOUT`` is the `stalled_worker_timeout`.
"""

from __future__ import annotations

import asyncio
import datetime
import random
import sys

from procrastinate import App, JobContext, Limit, Rate, Unique

URL = sys.argv[1] if __name__ == "__main__" else "postgresql+psycopg://"

HEARTBEAT = 0.5
"""Seconds between two heartbeats."""
MAX_WAIT = datetime.timedelta(seconds=2)
PER_KEY = Limit("per key", by=lambda kwargs: f"key {kwargs['number'] % 3}", concurrency=2)
IN_ALL = Limit("in all", by=lambda kwargs: f"key {kwargs['number'] % 5}", total=3)
SIZED = Limit("sized", by=lambda kwargs: f"key {kwargs['key']}", concurrency=50)
RATED = Limit("rated", rate=[Rate(8, per=0.5), Rate(40, per=4)])
FAIR = Limit("fair", by=lambda kwargs: kwargs["tenant"], fair=True)
WEIGHED = Limit("weighed", rate=Rate(100, per=3600))
"""A test sets its rates."""

app = App(connector=URL)


@app.task(name="per key", limit=PER_KEY)
async def per_key(number: int) -> None:
    """Run for a moment."""
    await asyncio.sleep(random.uniform(0, 0.05))


@app.task(name="in all", limit=IN_ALL)
async def in_all(number: int) -> None:
    """Run for a moment."""
    await asyncio.sleep(random.uniform(0, 0.05))


@app.task(name="locked", limit=PER_KEY, lock="one at a time")
async def locked(number: int) -> None:
    """Run for a moment, one at a time."""
    await asyncio.sleep(random.uniform(0, 0.02))


@app.task(name="sized", limit=SIZED)
async def sized(key: int, seconds: float = 0.01) -> None:
    """Run for a moment."""
    await asyncio.sleep(random.uniform(0, seconds))


@app.task(name="free")
async def free(key: int, seconds: float = 0.01) -> None:
    """Run for a moment, without a limit."""
    await asyncio.sleep(random.uniform(0, seconds))


@app.task(name="rated", limit=RATED, retry=1)
async def rated(number: int) -> None:
    """Fail at times, for a retry is a start as well."""
    await asyncio.sleep(random.uniform(0, 0.05))
    if random.random() < 0.2:
        raise ValueError("once more")


@app.task(name="weighed", limit=WEIGHED, retry=1)
async def weighed() -> None:
    """Fail at times, for a retry is a start as well. Take long at times, so that the worker releases other jobs."""
    chance = random.random()
    if chance < 0.1:
        raise ValueError("once more")
    if chance < 0.15:
        await asyncio.sleep(0.3)


@app.task(name="fair", limit=FAIR)
async def fair(tenant: str) -> None:
    """Run for a moment."""
    await asyncio.sleep(random.uniform(0, 0.02))


@app.task(name="unique", unique=Unique(by="unique key", until="end"), pass_context=True)
async def unique(context: JobContext) -> None:
    """Run until the worker is killed, and then for a moment."""
    if context.job.attempts == 0:
        await asyncio.sleep(600)


@app.task(name="unique by policy", retry=3, pass_context=True)
async def unique_by_policy(context: JobContext, key: str, number: int, must_wait: bool) -> None:
    """Run until the worker is killed, then fail once, and then succeed. Or succeed at once."""
    if not must_wait:
        return
    if context.job.attempts == 0:
        await asyncio.sleep(600)
    if context.job.attempts == 1:
        raise ValueError("once more")


@app.task(name="debounced", unique=Unique(by="late", on_conflict="replace", max_wait=MAX_WAIT))
async def debounced(number: int) -> None:
    """Do nothing, a while after the last call."""


if __name__ == "__main__":
    app.run_worker(
        concurrency=int(sys.argv[2]),
        update_heartbeat_interval=HEARTBEAT,
        stalled_worker_timeout=float(sys.argv[3]),
        max_rescues=1000,
        fetch_job_polling_interval=0.5,
    )
