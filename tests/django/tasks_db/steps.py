"""What the project does before, while and after it moves: ``python -m tests.django.tasks_db.steps NAME``."""

from __future__ import annotations

import datetime
import json
import os
import signal
import sys
from typing import Any

import django

LATER = datetime.datetime(2040, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)


def enqueue() -> list[str]:
    """Enqueue tasks of every kind, and return their ids."""
    from tests.django.shop.framework_tasks import add, add_async

    results = [
        add.enqueue(1, b=2),
        add.using(run_after=LATER, priority=7, queue_name="slow").enqueue(3),
        add_async.using(priority=-5).enqueue(a=5, b=6),
    ]
    return [result.id for result in results]


def enqueue_many() -> list[str]:
    """Enqueue more tasks than one transaction moves."""
    from tests.django.shop.framework_tasks import add

    return [add.enqueue(number).id for number in range(700)]


def enqueue_kept() -> list[str]:
    """Enqueue a task on a backend that stays."""
    from tests.django.shop.framework_tasks import add

    return [add.using(backend="kept").enqueue(1).id]


def enqueue_run_enqueue() -> list[list[str]]:
    """Enqueue tasks, let the package's own worker run those of the default queue, and enqueue more."""
    from django.core.management import call_command

    ended = enqueue()
    call_command("db_worker", "--batch", "--no-startup-delay", verbosity=0)
    return [ended, enqueue()]


def read(*ids: str) -> list[Any]:
    """Return what the framework's results say."""
    from procrastinate.adapters.django.task_backend.framework import task_backends

    results = [task_backends["default"].get_result(id_) for id_ in ids]
    return [[str(one.status), one._return_value, one.task.queue_name, one.task.priority] for one in results]


def die_in_the_transaction() -> None:
    """End without warning once the jobs are stored, and before the rows are marked."""
    from procrastinate.adapters.django.task_backend import import_rows, rows_of_tasks_db

    rows_of_tasks_db.mark_as_moved = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    import_rows.WaitingRows().move(limit=10)


def enqueue_and_hold_locks() -> None:
    """Enqueue tasks, lock every row, say so, and wait for the end of the input."""
    from django.db import transaction
    from django_tasks_db.models import DBTaskResult  # type: ignore[import-untyped, unused-ignore]

    enqueue()
    with transaction.atomic():
        list(DBTaskResult.objects.select_for_update())
        print("locked", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    django.setup()
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
