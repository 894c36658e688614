"""Defers one job at a time in a Django project, compared with the bare INSERT of the same row on one connection."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import django
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import BARE_INSERT, BARE_ROW

_BLOCK = 50

asked = driving.request()
parameters = conninfo_to_dict(asked["url"])
database = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": parameters["dbname"],
    "USER": parameters["user"],
    "HOST": parameters["host"],
}
settings.configure(DATABASES={"default": database}, INSTALLED_APPS=["procrastinate.contrib.django"], USE_TZ=True)
django.setup()

from django.db import connection, transaction  # noqa: E402

from procrastinate.contrib.django import app  # noqa: E402


def noop(number: int) -> None:
    """Do nothing, like the task of the other drivers."""


task = app.task(name="noop")(noop)


def defer() -> None:
    task.defer(number=1)


def insert() -> None:
    with connection.cursor() as cursor:
        cursor.execute(BARE_INSERT, BARE_ROW)
        cursor.fetchone()


def time_block(action: Callable[[], Any]) -> float:
    """Return the seconds for a block of calls. In a transaction, leave out its begin and its commit."""
    surroundings = transaction.atomic() if asked["kind"] == "atomic" else contextlib.nullcontext()
    with surroundings:
        connection.ensure_connection()
        began = time.perf_counter()
        for _ in range(_BLOCK):
            action()
        return time.perf_counter() - began


time_block(defer), time_block(insert)
driving.say("ready")
driving.wait_for_word()
seconds = [0.0, 0.0]
for _ in range(asked["jobs"] // _BLOCK):
    seconds[0] += time_block(defer)
    seconds[1] += time_block(insert)
driving.say("done", defers=seconds[0], bare=seconds[1], rows=2 * (asked["jobs"] + _BLOCK))
