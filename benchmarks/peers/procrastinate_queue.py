"""The app that this project and Procrastinate 3.x are driven with: their programs are the same."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.peers.driving import Effects
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

WORKER_OPTIONS: dict[str, Any] = {"install_signal_handlers": False}
BARE_INSERT = "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES (%s, %s, %s::jsonb) RETURNING id"
"""What a defer cannot do without."""
BARE_ROW = ("default", "noop", '{"number": 1}')


def make_app(url: str) -> App:
    """An app without tasks."""
    return App(connector=PsycopgConnector(conninfo=url, min_size=2, max_size=25))


def make_sync_app(url: str) -> App:
    """As :func:`make_app`, for a program without an event loop."""
    return App(connector=SyncPsycopgConnector(conninfo=url))


def add_noop_tasks(app: App, effects: Effects) -> None:
    """The tasks that a drain runs: they do nothing but count."""

    async def run(number: int) -> None:
        effects.add(number)

    def run_sync(number: int) -> None:
        effects.add(number)

    app.task(name="noop")(run)
    app.task(name="noop_sync")(run_sync)


def add_timed_task(app: App, starts: list[tuple[int, float]]) -> None:
    """The task that tells when it started."""

    async def run(number: int) -> None:
        starts.append((number, time.time()))

    app.task(name="timed")(run)
