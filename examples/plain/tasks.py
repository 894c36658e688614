"""An app and its tasks."""

from __future__ import annotations

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])


@app.task
def add(a: int, b: int) -> int:
    """A synchronous task: a worker runs it in a thread."""
    print(f"{a} + {b} = {a + b}", flush=True)
    return a + b


@app.task(retry=2)
async def greet(name: str) -> None:
    """An asynchronous task: a worker runs it in its event loop."""
    print(f"Hello, {name}!", flush=True)
