"""A worker of tasks with limits, for tests that kill it: ``python -m tests.worker.limited_program URL SLOTS``."""

from __future__ import annotations

import asyncio
import datetime
import random
import sys

from procrastinate import App, JobContext, Limit, Rate, Unique

URL = sys.argv[1] if __name__ == "__main__" else "postgresql+psycopg://"

MAX_WAIT = datetime.timedelta(seconds=2)
PER_KEY = Limit("per key", by=lambda kwargs: f"key {kwargs['number'] % 3}", concurrency=2)
IN_ALL = Limit("in all", by=lambda kwargs: f"key {kwargs['number'] % 5}", total=3)
SIZED = Limit("sized", by=lambda kwargs: f"key {kwargs['key']}", concurrency=50)
RATED = Limit("rated", rate=[Rate(8, per=0.5), Rate(40, per=4)])
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
    """Fail at times, for a retry is a start as well."""
    if random.random() < 0.1:
        raise ValueError("once more")


@app.task(name="unique", unique=Unique(by="unique key", until="end"), pass_context=True)
async def unique(context: JobContext) -> None:
    """Run until the worker is killed, and then for a moment."""
    if context.job.attempts == 0:
        await asyncio.sleep(600)


@app.task(name="debounced", unique=Unique(by="late", on_conflict="replace", max_wait=MAX_WAIT))
async def debounced(number: int) -> None:
    """Do nothing, a while after the last call."""


if __name__ == "__main__":
    app.run_worker(
        concurrency=int(sys.argv[2]),
        update_heartbeat_interval=0.5,
        stalled_worker_timeout=1.5,
        max_rescues=1000,
        fetch_job_polling_interval=0.5,
    )
