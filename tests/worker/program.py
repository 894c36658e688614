"""A program that runs a worker, for the tests that need a process: ``python -m tests.worker.program URL OPTIONS``."""

from __future__ import annotations

import asyncio
import json
import logging
import pathlib
import signal
import sys
import time

from procrastinate.adapters.worker_connector import WorkerConnector
from procrastinate.app import App
from procrastinate.job_context import JobContext

app = App(connector=WorkerConnector(sys.argv[1] if __name__ == "__main__" else ""))


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


if __name__ == "__main__":
    logging.basicConfig(level="INFO")
    # A shell's background jobs ignore it, and so would their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    app.run_worker(**json.loads(sys.argv[2]))
