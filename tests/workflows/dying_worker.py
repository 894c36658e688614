"""A worker that kills its own process at some statement: ``python -m tests.workflows.dying_worker URL STATEMENTS``.

With 0 it does not. Its job runs a step of `tests.workflows.model`, and notes its start in a table of the test's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import sqlalchemy as sa

from procrastinate import RetryStrategy
from procrastinate.app import App
from procrastinate.job_context import JobContext
from tests.database import libpq_url

URL = sys.argv[1] if __name__ == "__main__" else "postgresql+psycopg://"
app = App(connector=URL)
left = int(sys.argv[2]) if __name__ == "__main__" else 0


class Again(Exception):
    """The step runs again."""


@app.task(name="step", pass_context=True, retry=RetryStrategy(retry_exceptions=[Again]))
async def step(context: JobContext, end: str, retries: int) -> None:
    """End as it is told. To be aborted, it waits."""
    import psycopg

    # Not async: an abort that comes in between would be an error of the driver's, and no abort.
    with psycopg.connect(libpq_url(URL), autocommit=True) as connection:
        connection.execute("INSERT INTO starts (job_id) VALUES (%s)", [context.job.id])
    if context.job.attempts < retries:
        raise Again
    if end == "aborted":
        await asyncio.sleep(600)
    if end == "failed":
        raise ValueError(end)


def _count_down(*_: Any) -> None:
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sa.event.listen(sa.Engine, "after_cursor_execute", _count_down)
    app.run_worker(
        concurrency=5, update_heartbeat_interval=0.2, stalled_worker_timeout=2, max_rescues=1000, listen_notify=True
    )
