"""An app for the command: ``tests.cli.shop.app``."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import pathlib
import signal
import sys
import time
from multiprocessing.connection import Connection

import procrastinate

app = procrastinate.App(
    connector=os.environ.get("TESTS_CLI_DATABASE_URL", "postgresql+psycopg:///none?host=/nowhere"),
    worker_defaults={"name": "from the app"},
)
quick_app = app.with_connector(app.connector)
"""Misses a worker that has died within a second."""
quick_app.worker_defaults = {"update_heartbeat_interval": 0.2, "stalled_worker_timeout": 1.0}
app_of_two = app.with_connector(app.connector)
app_of_two.worker_defaults = {"name": "of two", "processes": 2}
not_an_app = object()


@app.task(name="add", queueing_lock="adding")
def add(a: int = 1, b: int = 1) -> None:
    """Print a sum."""
    print(f"sum {a + b}", flush=True)


@app.task(name="wait")
def wait() -> None:
    """Tell that it runs, and end when its standard input does."""
    print("waiting", flush=True)
    sys.stdin.read()
    print("waited", flush=True)


@app.task(name="stay")
def stay(place: str) -> None:
    """Say in which process it runs, and go on until there is a file ``go``."""
    here = pathlib.Path(place)
    (here / str(os.getpid())).touch()
    while not (here / "go").exists():
        time.sleep(0.01)


@app.task(name="stay_in_thread")
async def stay_in_thread() -> None:
    """Wait for a thread of the event loop's, for which Python waits at its exit."""
    await asyncio.to_thread(time.sleep, 600)


@app.task(name="fork_and_interrupt")
def fork_and_interrupt() -> None:
    """Fork, send the child SIGINT, and print its exit code: 1, for it raises KeyboardInterrupt."""
    forking = multiprocessing.get_context("fork")
    here, there = forking.Pipe()
    child = forking.Process(target=_say_and_sleep, args=(there,))
    child.start()
    here.recv()
    os.kill(child.pid or 0, signal.SIGINT)
    child.join(30)
    print(f"child {child.exitcode}", flush=True)


def _say_and_sleep(there: Connection) -> None:
    there.send(None)
    for _ in range(6000):  # Python acts on a signal that comes just before a sleep when that sleep ends
        time.sleep(0.1)


@app.task(name="log")
def log() -> None:
    """Log text that looks like records, and fail."""
    logging.getLogger("a_program").warning("in\nside", extra={"password": "hunter2"})
    raise ValueError("no\nconnection to postgresql://me:hunter2@host/db")


@app.task(name="print_loop")
async def print_loop() -> None:
    """Print whose event loop it runs on."""
    print(type(asyncio.get_running_loop()).__module__, flush=True)
