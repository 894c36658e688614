"""The app of the programs for this project and Procrastinate 3.x, which share their code."""

from __future__ import annotations

import importlib
import pkgutil
import time
from typing import Any

from benchmarks.peers.driving import Effects
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

WORKER_OPTIONS: dict[str, Any] = {"install_signal_handlers": False}
BARE_INSERT = "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES (%s, %s, %s::jsonb) RETURNING id"
"""The minimum that a defer must execute."""
BARE_ROW = ("default", "noop", '{"number": 1}')


def make_app(url: str) -> App:
    """Return an app without tasks, in a process that has imported the worker's modules.

    This project imports them when a worker first runs. The peers and 3.10.0 import theirs before the clock starts.
    """
    worker = importlib.import_module("procrastinate.worker")
    for module in pkgutil.walk_packages(getattr(worker, "__path__", ()), "procrastinate.worker."):
        importlib.import_module(module.name)
    return App(connector=PsycopgConnector(conninfo=url, min_size=2, max_size=25))


def make_sync_app(url: str) -> App:
    """Do the same as :func:`make_app` for a program without an event loop."""
    return App(connector=SyncPsycopgConnector(conninfo=url))


def add_noop_tasks(app: App, effects: Effects) -> None:
    """Add the tasks of a drain, which only count their runs."""

    async def run(number: int) -> None:
        effects.add(number)

    def run_sync(number: int) -> None:
        effects.add(number)

    app.task(name="noop")(run)
    app.task(name="noop_sync")(run_sync)


def add_timed_task(app: App, starts: list[tuple[int, float]]) -> None:
    """Add the task that reports its start time."""

    async def run(number: int) -> None:
        starts.append((number, time.time()))

    app.task(name="timed")(run)
