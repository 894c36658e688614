"""Time each screen and each reading command on a filled database: ``python -m benchmarks.screens URL``.

The database has the newest schema, and its jobs are the caller's. Each screen is asked for through the dashboard's WSGI
application, and each command runs in a process of its own. The first time of each is printed with the median of the
four after it, in milliseconds, as rows of Markdown.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from wsgiref.util import setup_testing_defaults

import procrastinate
from procrastinate import dashboard
from procrastinate.metrics import metrics_wsgi

ROUNDS = 5
SCREENS = {
    "overview": "",
    "jobs": "jobs",
    "jobs, failed": "jobs?state=failed",
    "jobs, ready": "jobs?state=ready",
    "jobs, of a task": "jobs?q=task:task7",
    "jobs, of a queue, succeeded": "jobs?state=succeeded&q=queue:q3",
    "job": "jobs/{job}",
    "queues": "queues",
    "tasks": "tasks",
    "failures": "failures",
    "locks": "locks",
    "limits": "limits",
    "limit": "limits?name=api",
    "limit, one key": "limits?name=api&key=key%201",
    "periodic": "periodic",
    "workers": "workers",
    "workflows": "workflows",
    "operations": "operations",
    "retry of failed jobs, preview": "operations/new?action=retry&state=failed",
    "doctor": "doctor",
    "system": "system",
}
COMMANDS = {
    "why JOB_ID": ("why", "{job}"),
    "queues": ("queues",),
    "top --once": ("top", "--once"),
    "retry, preview": ("retry", "--task", "shop.task0"),
    "cancel, preview": ("cancel", "--queue", "q0"),
    "logs JOB_ID": ("logs", "{job}"),
    "stack JOB_ID": ("stack", "{job}"),
    "queues pause NAME": ("queues", "pause", "q9"),
    "queues resume NAME": ("queues", "resume", "q9"),
    "doctor": ("doctor",),
    "check": ("check",),
    "limits": ("limits",),
    "unique": ("unique", "no such key"),
    "healthchecks": ("healthchecks",),
}


def time_screen(pages: Callable[..., Iterable[bytes]], path: str) -> float:
    """Ask for a page, and return the milliseconds until its last byte; raise if it is no page."""
    path, _, query = path.partition("?")
    environ: dict[str, object] = {"PATH_INFO": f"/{path}", "QUERY_STRING": query}
    setup_testing_defaults(environ)
    answer: list[str] = []
    begin = time.perf_counter()
    b"".join(pages(environ, lambda status, headers: answer.append(status)))
    took = time.perf_counter() - begin
    if not answer[0].startswith("200"):
        raise RuntimeError(f"{path}: {answer[0]}")
    return took * 1000


def time_command(url: str, arguments: tuple[str, ...]) -> float:
    """Run a command, and return its milliseconds, with the start of Python."""
    command = [sys.executable, "-m", "procrastinate", "--app=benchmarks.screens.app", *arguments]
    begin = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, "SCREENS_URL": url}, capture_output=True, text=True, check=False)
    took = time.perf_counter() - begin
    if "Traceback" in done.stderr:
        raise RuntimeError(done.stderr)
    return took * 1000


def show(kind: str, name: str, once: Callable[[], float]) -> None:
    """Print the row of one screen or command."""
    first, *others = [once() for _ in range(ROUNDS)]
    print(f"| {kind} | {name} | {first:.0f} | {statistics.median(others):.0f} |", flush=True)


app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=os.environ.get("SCREENS_URL", "")))


def main(url: str, job: str) -> None:
    """Time all screens and commands."""
    pages_app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=url))
    with pages_app.open():
        pages = dashboard.wsgi(pages_app, authorize=dashboard.Access.everything())
        print("| | | first, ms | then, ms |\n|---|---|---|---|")
        for name, path in SCREENS.items():
            show("screen", name, lambda path=path: time_screen(pages, path.format(job=job)))  # type: ignore[misc]
        for path in ("metrics", "scale"):  # an application keeps its answers for a moment, so each call has its own
            show("endpoint", f"/{path}", lambda path=path: time_screen(metrics_wsgi(pages_app, token=None), path))  # type: ignore[misc]
    for name, arguments in COMMANDS.items():
        filled = tuple(word.format(job=job) for word in arguments)
        show("command", name, lambda filled=filled: time_command(url, filled))  # type: ignore[misc]


if __name__ == "__main__":
    main(*sys.argv[1:])
