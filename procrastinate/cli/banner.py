"""What a worker says at its start: a banner on a terminal, one log record elsewhere."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import sys
from collections.abc import Iterator

from procrastinate._checks.times import utcnow
from procrastinate._durations import setting
from procrastinate._legacy import metadata
from procrastinate._quoting import LONGEST_VALUE, quoted
from procrastinate._text.terminal import counted, is_terminal, paint, wrapped, write
from procrastinate.app import App
from procrastinate.builtin_tasks import NAMESPACE
from procrastinate.job_context import queues_display
from procrastinate.worker import Worker

_VALUE_INDENT = 13
"""Columns between the name of a fact and its value."""
_SHOWN = 12
"""Number of tasks and of periodic tasks that a banner names."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A periodic task with its next tick."""

    task: str
    periodic_id: str
    cron: str
    next_tick: datetime.datetime


@dataclasses.dataclass(frozen=True)
class WorkerDescription:
    """The facts that show whether this is the worker that was meant."""

    release: str
    app: str | None
    database: str
    queues: list[str] | None
    concurrency: int
    processes: int
    tasks: list[str]
    periodic: list[Schedule]
    shutdown_graceful_timeout: float | None


def describe_worker(app: App, worker: Worker, *, path: str | None, processes: int) -> WorkerDescription:
    """Return the facts about a worker that is about to start.

    Parameters
    ----------
    path:
        The path by which the command found the app, if it was given.
    processes:
        The number of processes that run this worker.
    """
    settings = worker.settings
    return WorkerDescription(
        release=metadata("__version__"),
        app=path,
        database=app.connector.describe_database(),
        queues=None if settings.queues is None else list(settings.queues),
        concurrency=settings.concurrency,
        processes=processes,
        tasks=sorted({task.name for task in app.tasks.values() if not task.name.startswith(f"{NAMESPACE}:")}),
        periodic=sorted(_schedules(app), key=lambda one: one.next_tick),
        shutdown_graceful_timeout=settings.shutdown_graceful_timeout,
    )


def _schedules(app: App) -> Iterator[Schedule]:
    now = utcnow().timestamp()
    for one in app.periodic_registry.periodic_tasks.values():
        tick = datetime.datetime.fromtimestamp(one.next_tick(now), tz=one.timezone)
        yield Schedule(task=one.task.name, periodic_id=one.periodic_id, cron=one.cron, next_tick=tick)


def tell(worker: Worker, description: WorkerDescription) -> None:
    """Write the banner to stderr if that is a terminal. Otherwise log one record with all facts in its ``extra``."""
    if sys.stderr.isatty():
        for line in banner(description, colours=is_terminal(sys.stderr)).split("\n"):
            write(wrapped(line, sys.stderr, rest_indent=_VALUE_INDENT if line.startswith("  ") else 0), sys.stderr)
        return
    worker.logger.log(
        logging.INFO,
        "Procrastinate %s on %s: %s, concurrency %d, %s, %d periodic",
        description.release,
        description.database,
        queues_display(description.queues),
        description.concurrency,
        counted(len(description.tasks), "task"),
        len({one.task for one in description.periodic}),
        extra={"action": "describe_worker", "worker": worker.log_context(), **_as_extra(description)},
    )


def _as_extra(description: WorkerDescription) -> dict[str, object]:
    values = {f"worker_{name}": value for name, value in vars(description).items()}
    values["worker_periodic"] = [{**vars(one), "next_tick": one.next_tick.isoformat()} for one in description.periodic]
    return values


def banner(description: WorkerDescription, *, colours: bool) -> str:
    """Return the banner, in which every value is quoted."""
    title = f"Procrastinate {description.release}"
    lines = [
        f"  {name:<{_VALUE_INDENT - 1}} {quoted(value, LONGEST_VALUE)}"
        for name, value in _facts(description)
        if value is not None
    ]
    return "\n".join([paint(title, "bold") if colours else title, *lines, "", _ctrl_c(description), ""])


def _facts(description: WorkerDescription) -> Iterator[tuple[str, str | None]]:
    yield "app", description.app
    yield "database", description.database
    yield "queues", "all" if description.queues is None else ", ".join(description.queues)
    jobs = f"{counted(description.concurrency, 'job')} at a time"
    yield "concurrency", jobs if description.processes == 1 else f"{jobs} in each of {description.processes} processes"
    yield from _listed("tasks", description.tasks)
    yield from _listed("periodic", [_line(one) for one in description.periodic])


def _listed(name: str, values: list[str]) -> Iterator[tuple[str, str]]:
    """Yield a line for each value, with the name in front of the first."""
    shown = values[:_SHOWN] or ["none"]
    yield from zip([name, *[""] * len(shown)], shown, strict=False)
    if len(values) > _SHOWN:
        yield "", f"and {len(values) - _SHOWN} more"


def _line(one: Schedule) -> str:
    name = f"{one.task} ({one.periodic_id})" if one.periodic_id else one.task
    return f"{name}  {one.cron}  next {one.next_tick:%Y-%m-%d %H:%M:%S %Z}"


def _ctrl_c(description: WorkerDescription) -> str:
    limit = description.shutdown_graceful_timeout
    time = "" if limit is None else f" within {setting(limit)}"
    return (
        f"Ctrl-C lets running jobs end{time}, and stops. Ctrl-C again cancels running jobs: "
        "async jobs run again, and sync jobs when their thread has ended."
    )
