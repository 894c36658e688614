"""``manage.py procrastinate import_django_tasks``: moves waiting tasks of django-tasks-db into the queue."""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from django import db

from procrastinate._quoting import quoted
from procrastinate.adapters.django.task_backend.import_rows import Counts, WaitingRows

_BATCH = 500
"""Rows that one transaction moves."""
_INTERVAL = 1.0
"""Seconds between two looks of ``--watch``."""
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Write = Callable[[str], Any]


def import_django_tasks(arguments: argparse.Namespace, write: Write) -> None:
    """Move the rows that wait, and say what was moved and what is left.

    Parameters
    ----------
    write:
        Prints a line.

    Raises
    ------
    NotImportable
        The rows cannot be moved at all.
    """
    if arguments.dry_run:
        rows = WaitingRows()
        _say(rows.count(), "would be moved", write)
        _say_left(rows, write)
    elif arguments.watch:
        _watch(write)
    else:
        rows = WaitingRows()
        _say(_move_all(rows), "moved", write)
        _say_left(rows, write)


def _move_all(rows: WaitingRows) -> Counts:
    total = Counts()
    while moved := rows.move(limit=_BATCH):
        total += moved
    return total


def _watch(write: Write) -> None:
    with _stopped_by_signals() as stopped:
        write("Watching for rows of django-tasks-db. Stop with Ctrl-C or SIGTERM.")
        while not stopped.is_set():
            try:
                moved = _move_all(WaitingRows())
            except (db.OperationalError, db.InterfaceError) as error:
                write(f"The database cannot be reached, another try follows: {quoted(str(error))}")
                db.close_old_connections()
            else:
                if moved:
                    _say(moved, "moved", write)
            stopped.wait(_INTERVAL)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Let signals end the loop between two transactions."""
    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in _STOP_SIGNALS}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(counts: Counts, done: str, write: Write) -> None:
    for kind, number in counts.most_common():
        write(quoted(f"{number} of {kind.task_path}, queue {kind.queue_name}"))
    write(f"{counts.total()} rows {done}.")


def _say_left(rows: WaitingRows, write: Write) -> None:
    for reason, number in rows.count_left().items():
        write(f"{number} rows stay. {reason}.")
