"""``manage.py procrastinate import_django_tasks``: tasks that wait in django-tasks-db become jobs, each once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from tests import database
from tests.django.support import ROOT, manage
from tests.django.tasks_db.settings import AFTER, BEFORE

SETTINGS = "tests.django.tasks_db.settings"


def _migrate(url: str) -> None:
    done = manage("migrate", "-v0", url=url, settings=SETTINGS)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def moving_databases(databases: database.Databases) -> Iterator[database.Databases]:
    """Databases with the tables of django-tasks-db and of the queue."""
    moving = database.Databases(databases.server, f"{databases.prefix}_tasks_db", _migrate)
    yield moving
    moving.close()


@pytest.fixture
def url(moving_databases: database.Databases) -> Iterator[str]:
    """A database of this test."""
    url = moving_databases.create_migrated()
    yield url
    moving_databases.drop(url)


def start(name: str, *arguments: str, url: str, backend: str = AFTER) -> subprocess.Popen[str]:
    """Start a step of the project."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.django.tasks_db.steps", name, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "TEST_DATABASE_URL": url,
            "TEST_TASKS_BACKEND": backend,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def step(name: str, *arguments: str, url: str, backend: str = AFTER) -> Any:
    """Run a step of the project, and return its result."""
    process = start(name, *arguments, url=url, backend=backend)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


def import_(url: str, *options: str, backend: str = AFTER) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return manage(
        "procrastinate", "import_django_tasks", *options, url=url, settings=SETTINGS, TEST_TASKS_BACKEND=backend
    )


def moved(url: str, *options: str) -> str:
    """Run the command, expect success, and return the line that counts."""
    done = import_(url, *options)
    assert done.returncode == 0, done.stderr
    return next(line for line in done.stdout.splitlines() if " rows " in line)


def query(url: str, statement: str) -> list[Any]:
    """Rows of the database."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def test_waiting_rows_become_jobs_with_their_times_priorities_and_queues(url: str) -> None:
    step("enqueue", url=url, backend=BEFORE)
    assert moved(url) == "3 rows moved."
    jobs = query(url, "SELECT queue_name, priority, scheduled_at::text, args FROM procrastinate_jobs ORDER BY id")
    assert [job[:2] for job in jobs] == [("slow", 7), ("default", 0), ("default", -5)]
    assert [job[2] for job in jobs][1:] == [None, None]
    assert jobs[0][2].startswith("2040-05-06")
    assert [job[3] for job in jobs] == [
        {"args": [3], "kwargs": {}},
        {"args": [1], "kwargs": {"b": 2}},
        {"args": [], "kwargs": {"a": 5, "b": 6}},
    ]


def test_ids_from_before_the_move_lead_to_results(url: str) -> None:
    ended, waiting = step("enqueue_run_enqueue", url=url, backend=BEFORE)
    moved(url)
    assert manage("procrastinate", "worker", "--one-shot", url=url, settings=SETTINGS).returncode == 0
    results = step("read", *ended, *waiting, url=url)
    assert [(status, value) for status, value, *_ in results] == [
        ("SUCCESSFUL", 3),
        ("READY", None),
        ("SUCCESSFUL", 11),
        ("SUCCESSFUL", 3),
        ("READY", None),
        ("SUCCESSFUL", 11),
    ]
    assert results[1][2:] == ["slow", 7]


def test_rows_move_once_however_often_the_command_runs(url: str) -> None:
    step("enqueue_many", url=url, backend=BEFORE)
    assert moved(url, "--dry-run") == "700 rows would be moved."
    assert query(url, "SELECT count(*) FROM procrastinate_jobs") == [(0,)]
    processes = [start_import(url) for _ in range(2)]
    printed = "".join(process.communicate(timeout=60)[0] for process in processes)
    counts = [int(line.split()[0]) for line in printed.splitlines() if line.endswith(" rows moved.")]
    assert sum(counts) == 700, printed
    assert query(url, "SELECT count(*), count(DISTINCT args) FROM procrastinate_jobs") == [(700, 700)]
    assert query(url, "SELECT DISTINCT status FROM django_tasks_database_dbtaskresult") == [("RUNNING",)]


def start_import(url: str, *options: str) -> subprocess.Popen[str]:
    """Start the command."""
    return subprocess.Popen(
        [sys.executable, "-m", "django", "procrastinate", "import_django_tasks", *options],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS, "TEST_DATABASE_URL": url, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_kill_between_jobs_and_rows_leaves_neither(url: str) -> None:
    step("enqueue", url=url, backend=BEFORE)
    process = start("die_in_the_transaction", url=url)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert query(url, "SELECT count(*) FROM procrastinate_jobs") == [(0,)]
    assert moved(url) == "3 rows moved."


def test_rows_that_a_worker_has_locked_stay_its_own(url: str) -> None:
    holder = start("enqueue_and_hold_locks", url=url, backend=BEFORE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    assert moved(url) == "0 rows moved."
    holder.communicate(timeout=60)
    assert moved(url) == "3 rows moved."


def test_rows_of_a_backend_that_stays_are_counted_and_left(url: str) -> None:
    step("enqueue_kept", url=url)
    done = import_(url)
    assert "0 rows moved." in done.stdout
    assert "1 rows stay. TASKS gives their backend (kept) to another class or database." in done.stdout


def test_rows_that_cannot_become_jobs_stay_and_hold_up_no_other(url: str) -> None:
    step("enqueue", url=url, backend=BEFORE)
    odd = ("queue_name = ''", "args_kwargs = '[]'")
    for number, change in enumerate(odd):
        query(
            url,
            f"UPDATE django_tasks_database_dbtaskresult SET {change} WHERE id = (SELECT id FROM "  # noqa: S608
            f"django_tasks_database_dbtaskresult ORDER BY enqueued_at LIMIT 1 OFFSET {number}) RETURNING 1",
        )
    done = import_(url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 rows moved." in done.stdout
    assert "1 rows stay. They cannot become jobs. The queue is empty: ''" in done.stdout
    assert "1 rows stay. They cannot become jobs. TypeError: " in done.stdout
    assert query(url, "SELECT status FROM django_tasks_database_dbtaskresult ORDER BY status") == [
        ("READY",),
        ("READY",),
        ("RUNNING",),
    ]


def test_the_watch_moves_rows_that_come_until_it_is_stopped(url: str) -> None:
    watch = start_import(url, "--watch")
    assert watch.stdout is not None
    assert watch.stdout.readline().startswith("Watching")
    step("enqueue", url=url, backend=BEFORE)
    while "rows moved" not in watch.stdout.readline():
        assert watch.poll() is None
    watch.send_signal(signal.SIGTERM)
    watch.communicate(timeout=30)
    assert watch.returncode == 0
    assert query(url, "SELECT DISTINCT status::text FROM procrastinate_jobs") == [("todo",)]


def test_the_command_says_what_a_project_has_to_change_first(url: str, project_url: str) -> None:
    before = import_(url, backend=BEFORE)
    assert before.returncode == 1
    assert "CommandError: TASKS has no backend of this queue" in before.stderr
    without = manage("procrastinate", "import_django_tasks", url=project_url)
    assert without.returncode == 1
    assert "CommandError: The app django_tasks_db is not in INSTALLED_APPS" in without.stderr
