"""A program that runs a worker, for the tests that need a process: ``python -m tests.worker.program URL OPTIONS``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pathlib
import signal
import sys
import time

from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.app import App
from procrastinate.job_context import JobContext

app = App(connector=WorkerConnector(sys.argv[1] if __name__ == "__main__" else "postgresql:///none"))


@app.task(name="wait_for_file", queue="program")
def wait_for_file(path: str) -> None:
    """Runs until the file is there."""
    while not pathlib.Path(path).exists():
        time.sleep(0.01)


@app.task(name="wait_until_cancelled", queue="program", retry=1, pass_context=True)
async def wait_until_cancelled(context: JobContext) -> None:
    """Runs until it is cancelled; the second time, not at all."""
    if context.job.attempts == 0:
        await asyncio.Event().wait()


@app.task(name="sleep_in_loop", queue="program")
async def sleep_in_loop() -> None:
    """Blocks the event loop."""
    time.sleep(600)  # noqa: ASYNC251


@app.task(name="stay_in_thread", queue="program")
async def stay_in_thread() -> None:
    """Waits for a thread of the event loop's, for which Python waits at its exit."""
    await asyncio.to_thread(time.sleep, 600)


@app.task(name="refuse_to_end", queue="program")
async def refuse_to_end() -> None:
    """Goes on whenever it is cancelled."""
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(600)


if __name__ == "__main__":
    logging.basicConfig(level="INFO")
    # A shell's background jobs ignore it, and so would their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    app.run_worker(**json.loads(sys.argv[2]))
