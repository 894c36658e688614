"""``procrastinate top``: the queue as it is now, again and again."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from procrastinate import exceptions
from procrastinate._durations import duration
from procrastinate._long_waits import told_by_thread
from procrastinate._quoting import quoted
from procrastinate._text.screen import Screen, takes_screens
from procrastinate._text.terminal import fitted, is_terminal, paint, table, wrapped, write
from procrastinate.app import App
from procrastinate.cli.arguments import seconds
from procrastinate.cli.json_output import write_json
from procrastinate.cli.waits import database_awaited
from procrastinate.core.defaults import without_builtin

if TYPE_CHECKING:
    from procrastinate.core.inspection import JobsPage, Overview, Queues, QueueState, Workers, WorkerState

_INTERVAL = 2.0
_SHOWN = 12
"""Maximum number of rows of a table."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The queue at a moment."""

    database: str
    overview: Overview
    queues: Queues
    workers: Workers
    running: JobsPage


def add_top_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`top_command`."""
    parser.add_argument(
        "--interval", type=seconds, default=_INTERVAL, help=f"seconds between two looks (default: {_INTERVAL:g})"
    )
    parser.add_argument("--once", action="store_true", help="print one snapshot and exit, as in a pipe")
    parser.add_argument("--json", action="store_true", help="print one snapshot as JSON and exit")


def top_command(app: App, arguments: argparse.Namespace) -> None:
    """Show the queue on a terminal until Ctrl-C. Print one snapshot in a pipe, with ``--once`` and with ``--json``.

    A database that cannot be reached is shown on the terminal, and the view goes on.

    Raises
    ------
    ConnectorException
        The database cannot be reached, and only one snapshot is asked for.
    """
    if not (arguments.once or arguments.json) and takes_screens(sys.stdout):
        _watch(app, max(arguments.interval, 0.1))
        return
    with database_awaited(), app.open():
        snapshot = take_snapshot(app)
    if arguments.json:
        write_json(snapshot)
    else:
        write("\n".join(frame(snapshot, is_plain=not is_terminal(sys.stdout))))


def _watch(app: App, interval: float) -> None:
    try:
        with app.open(), Screen(sys.stdout) as screen:
            while True:
                with told_by_thread(_teller(screen)):
                    lines = _next_frame(app)
                screen.draw(lines)
                time.sleep(interval)
    except KeyboardInterrupt:
        return


def _teller(screen: Screen) -> Callable[[float], None]:
    """Return what says on the screen that its figures are old."""
    since = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
    return lambda waited: screen.note(fitted(f"The database has not answered since {since}"))


def _next_frame(app: App) -> list[str]:
    try:
        return frame(take_snapshot(app), is_plain=not is_terminal(sys.stdout), is_cut=True)
    except exceptions.ConnectorException as error:
        return [fitted(quoted(str(error), 2_000))]


def take_snapshot(app: App) -> Snapshot:
    """Return the queue as it is now. The loads are those of the dashboard, and are bounded."""
    from procrastinate.core.inspection import JobSearch, JobState

    return Snapshot(
        database=app.connector.describe_database(),
        overview=app.inspect.overview(),
        queues=app.inspect.queues(without_builtin(app.queues_of_tasks())),
        workers=app.inspect.workers(),
        running=app.inspect.jobs(JobSearch(state=JobState.RUNNING), limit=_SHOWN),
    )


def frame(snapshot: Snapshot, *, is_plain: bool = False, is_cut: bool = False) -> list[str]:
    """Return the lines that show a snapshot. Texts of rows are quoted.

    Parameters
    ----------
    is_plain:
        If true, there are no colours.
    is_cut:
        If true, lines are cut at the width of the terminal.
    """
    lines = _head(snapshot)
    if is_cut:
        lines = [*map(fitted, lines)]
    elif not is_plain:
        lines = [wrapped(line, sys.stdout) for line in lines]
    for title, header, rows in _tables(snapshot):
        if rows:
            lines += ["", title if is_plain else paint(title, "bold")]
            text = table(header, rows[:_SHOWN], is_plain=is_plain)
            lines += [fitted(line) if is_plain and is_cut else line for line in text.splitlines()]
            lines += [f"and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return lines


def _head(snapshot: Snapshot) -> list[str]:
    overview, workers = snapshot.overview, snapshot.workers.workers
    alive = [one for one in workers if one.is_alive]
    busy, slots = sum(one.running or 0 for one in alive), sum(one.concurrency or 0 for one in alive)
    ready, *later = (f"{count} {state.label}" for state, count in overview.waiting.items())
    ended = ", ".join(f"{count} {state.label}" for state, count in overview.ended.items() if count.number)
    last = overview.minutes[-2] if len(overview.minutes) > 1 else None
    lines = [
        f"Procrastinate on {quoted(snapshot.database, 200)}, {overview.now:%Y-%m-%d %H:%M:%S} UTC",
        f"Workers  {overview.workers_alive} alive, {overview.workers_silent} silent, {busy} of {slots} slots busy",
        f"Jobs     {', '.join([ready, f'{overview.running} running', *later])}",
        f"Hour     {ended or 'no job has ended'}",
    ]
    if last is not None:
        lines.append(f"Minute   {last.succeeded:,} succeeded, {last.failed:,} failed in the last whole minute")
    if overview.stalled.number:
        lines.append(f"Trouble  running without a live worker: {overview.stalled}")
    if overview.overdue.number:
        lines.append(f"Trouble  due, and not made ready by a worker: {overview.overdue}")
    return lines


_OF_QUEUES = (
    "name",
    "paused",
    "ready",
    "running",
    "waits",
    "workers",
    "slots",
    "scheduled",
    "blocked",
    "limited",
    "waiting for steps",
)
"""Columns of the queues. A narrow terminal cuts the last ones off."""
_OF_WORKERS = ("name", "host", "state", "slots", "queues", "heartbeat", "trouble")
_OF_JOBS = ("id", "task", "queue", "runs", "attempt", "worker")
_Table = tuple[str, Sequence[str], list[list[str]]]


def _tables(snapshot: Snapshot) -> Iterator[_Table]:
    now = snapshot.overview.now
    queues = sorted(snapshot.queues.queues, key=lambda queue: (-queue.ready.number, -queue.running.number, queue.name))
    yield "Queues", _OF_QUEUES, [_queue(queue, now) for queue in queues]
    yield "Workers", _OF_WORKERS, [_worker(worker, now) for worker in snapshot.workers.workers]
    names: dict[int | None, str | None] = {worker.id: worker.name for worker in snapshot.workers.workers}
    running = [
        [
            str(job.id),
            job.task_name,
            job.queue_name,
            _age(job.started_at, now),
            str(job.attempts + 1),
            "" if job.worker_id is None else names.get(job.worker_id) or str(job.worker_id),
        ]
        for job in snapshot.running.jobs
    ]
    yield "Running", _OF_JOBS, running


def _queue(queue: QueueState, now: datetime.datetime) -> list[str]:
    waits, paused = _age(queue.oldest_ready_at, now), "yes" if queue.pause else ""
    ready, *later, running = map(str, queue.counts.values())
    return [queue.name, paused, ready, running, waits, str(queue.served_by), str(queue.slots), *later]


def _worker(worker: WorkerState, now: datetime.datetime) -> list[str]:
    state = (worker.state or "alive") if worker.is_alive else "silent" if worker.is_registered else "gone"
    slots = "" if worker.concurrency is None else f"{worker.running or 0}/{worker.concurrency}"
    queues = "" if worker.queues is None else ", ".join(worker.queues) or "all"
    host = "" if worker.hostname is None else f"{worker.hostname}:{worker.pid}"
    troubles = [
        f"fetch failed ({worker.last_error_code})" if worker.last_error_code else "",
        f"{worker.lost_threads} slots lost" if worker.lost_threads else "",
        f"{worker.unwritten} outcomes unwritten" if worker.unwritten else "",
    ]
    heartbeat = _age(worker.last_heartbeat_at, now)
    return [worker.name or str(worker.id), host, state, slots, queues, heartbeat, ", ".join(filter(None, troubles))]


def _age(since: datetime.datetime | None, now: datetime.datetime) -> str:
    """Return the whole seconds since a moment as a duration."""
    if since is None:
        return ""
    passed = int((now - since).total_seconds())
    return duration(passed) if passed > 0 else "0 s"
