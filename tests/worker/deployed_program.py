"""A worker of tasks with limits, of any release: ``python -m tests.worker.deployed_program URL SLOTS``.

A release that knows no limits runs the same tasks without them.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

import procrastinate

URL = sys.argv[1] if __name__ == "__main__" else "postgresql+psycopg://"

app = procrastinate.App(connector=URL)


def limit_of(name: str, **numbers: Any) -> dict[str, Any]:
    """Return the options of a task with a limit. A release that does not know one of them leaves the limit out."""
    try:
        return {"limit": procrastinate.Limit(name, **numbers)}
    except (AttributeError, TypeError):
        return {}


def rates() -> dict[str, Any]:
    """Return the rate of a task, if the release knows rates."""
    try:
        return {"rate": procrastinate.Rate(8, per=0.5)}
    except AttributeError:
        return {"rate": None}


@app.task(name="limited", **limit_of("limited", by=lambda kwargs: f"key {kwargs['number'] % 3}", concurrency=2))
async def limited(number: int) -> None:
    """Run for a moment."""
    await asyncio.sleep(random.uniform(0, 0.05))


@app.task(name="fair", **limit_of("fair", by=lambda kwargs: f"key {kwargs['number'] % 3}", total=3, fair=True))
async def fair(number: int) -> None:
    """Run for a moment."""
    await asyncio.sleep(random.uniform(0, 0.05))


@app.task(name="rated", **limit_of("rated", **rates()))
async def rated(number: int) -> None:
    """Run for a moment."""
    await asyncio.sleep(random.uniform(0, 0.05))


@app.task(name="unlimited", lock="one at a time")
async def unlimited(number: int) -> None:
    """Run for a moment, one at a time."""
    await asyncio.sleep(random.uniform(0, 0.01))


if __name__ == "__main__":
    app.run_worker(
        concurrency=int(sys.argv[2]),
        update_heartbeat_interval=0.5,
        stalled_worker_timeout=1.5,
        max_rescues=1000,
        fetch_job_polling_interval=0.5,
    )
