"""The queue and the jobs of the programs for Chancy."""

from __future__ import annotations

from typing import Any

from chancy import Chancy, Queue, job

from benchmarks.peers import driving

WRITE_EVERY = 0.001
"""Seconds between two writes of outcomes. Its default is a second."""
LINE = "line"
"""The queue of the jobs that wait for their rate."""
effects: list[driving.Effects] = []


@job()  # type: ignore[untyped-decorator]
async def noop(*, number: int) -> None:
    """Count the run."""
    effects[-1].add(number)


@job()  # type: ignore[untyped-decorator]
async def wait() -> None:
    """Stand for a job that waits for its rate."""


def make_app(url: str) -> Any:
    """Return an app without plugins."""
    return Chancy(url, plugins=[], no_default_plugins=True)


def make_queue(name: str = "default", concurrency: int = 10, **options: Any) -> Any:
    """Return a queue that is polled at once after a job, and runs its jobs on the event loop."""
    fast = {"executor": Chancy.Executor.Async, "polling_interval": 1, "eager_polling": True}
    return Queue(name, concurrency=concurrency, **fast, **options)
