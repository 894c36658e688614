"""Django for tests: set up once per process, and connected to each test's database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import django
from asgiref.sync import sync_to_async
from django.db import connections

SETTINGS = "tests.django.project.settings"
ROOT = pathlib.Path(__file__).parents[2]


def set_up() -> None:
    """Set up Django in this process. The environment and the time zone of the process are unchanged, because other
    tests start their own Django projects.
    """
    with mock.patch.dict(os.environ, {"DJANGO_SETTINGS_MODULE": SETTINGS}):
        django.setup()
    time.tzset()  # Django has changed both TZ and the zone, and only TZ is restored


@contextlib.contextmanager
def using_database(url: str, **changes: Any) -> Iterator[None]:
    """Connect Django's default alias to a test's database, in every thread."""
    from tests.django.project.settings import database

    entry = connections.settings["default"]
    before = dict(entry)
    close_connections()
    entry.update(database(url) | changes)
    try:
        yield
    finally:
        close_connections()
        entry.clear()
        entry.update(before)


@contextlib.contextmanager
def changed_connection(**changes: Any) -> Iterator[None]:
    """Change the entry of ``DATABASES`` for the default connection of this thread."""
    connection = connections["default"]
    connection.close()
    before = connection.settings_dict
    connection.settings_dict = {**before, **changes}
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict = before


def close_connections() -> None:
    """Close the connections of this thread and of the thread of Django's asynchronous ORM."""
    connections.close_all()
    asyncio.run(sync_to_async(connections.close_all)())


def manage(
    *arguments: str, url: str = "postgresql://user@/none?host=/nowhere", settings: str = SETTINGS, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``manage.py`` in its own process."""
    return _run_python("-m", "django", *arguments, url=url, settings=settings, **environment)


def run_program(program: str, url: str = "postgresql://user@/none?host=/nowhere") -> str:
    """Run a program of the project in its own process, expect success, and return what it printed."""
    done = _run_python("-c", program, url=url, settings=SETTINGS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _run_python(*arguments: str, url: str, settings: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:procrastinate", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "DJANGO_SETTINGS_MODULE": settings,
            "TEST_DATABASE_URL": url,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run_ok(*arguments: str, **options: Any) -> str:
    """Run ``manage.py``, expect success, and return what it printed."""
    done = manage(*arguments, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
