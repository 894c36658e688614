"""``manage.py procrastinate import_django_tasks``: moves waiting tasks of django-tasks-db into the queue."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from typing import Any

from django import db

from procrastinate._quoting import quoted
from procrastinate.adapters.django.task_backend.import_rows import Counts, WaitingRows
from procrastinate.cli.stop_signals import stopped_by_signals
from procrastinate.cli.waits import database_awaited

_BATCH = 500
"""Rows that one transaction moves."""
_INTERVAL = 1.0
"""Seconds between two looks of ``--watch``."""

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
    while moved := _move_some(rows):
        total += moved
    return total


def _move_some(rows: WaitingRows) -> Counts:
    with database_awaited():
        return rows.move(limit=_BATCH)


def _watch(write: Write) -> None:
    stopped = threading.Event()
    with stopped_by_signals(stopped.set):
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


def _say(counts: Counts, done: str, write: Write) -> None:
    for kind, number in counts.most_common():
        write(quoted(f"{number} of {kind.task_path}, queue {kind.queue_name}"))
    write(f"{counts.total()} rows {done}.")


def _say_left(rows: WaitingRows, write: Write) -> None:
    for reason, number in rows.count_left().items():
        write(f"{number} rows stay. {reason}.")
