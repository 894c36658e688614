"""Procrastinate 3.10 itself, every operation of it, on tables of this release: upgraded, and made by it."""

from __future__ import annotations

import pytest

import procrastinate
from tests.moving.release import command_3x, run_3x, running_3x
from tests.moving.rows import execute
from tests.moving.test_adoption import apply_schema
from tests.moving.test_rolling import wait_until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=["3x", "adopted", "contracted", "fresh"])
def url(request: pytest.FixtureRequest) -> str:
    """A database: 3.10's own, for comparison, and those that this release leaves."""
    if request.param == "fresh":
        return str(request.getfixturevalue("database_url"))
    made = str(request.getfixturevalue("url_of_3x"))
    if request.param != "3x":
        apply_schema(made)
    if request.param == "contracted":
        app = procrastinate.App(connector=made)
        with app.open():
            app.schema_manager.contract()
    return made


def test_every_operation_works(url: str) -> None:
    assert "all of it works" in run_3x(url, "operations.py")


def test_every_connector_works(url: str) -> None:
    assert "all of it works" in run_3x(url, "connectors.py")


def test_the_command_works(url: str) -> None:
    command_3x(url, "healthchecks")
    command_3x(url, "defer", "add", '{"a": 1, "b": 1}')
    command_3x(url, "defer", "fails")
    command_3x(url, "worker", "--one-shot")
    listed = command_3x(url, "shell", "list_jobs")
    assert "succeeded" in listed
    assert "failed" in listed
    assert "default" in command_3x(url, "shell", "list_queues")
    assert "fails" in command_3x(url, "shell", "list_tasks")
    command_3x(url, "shell", "list_locks")
    command_3x(url, "shell", "retry", "2")
    command_3x(url, "shell", "cancel", "2")
    assert execute(url, "SELECT status::text FROM procrastinate_jobs ORDER BY id") == [("succeeded",), ("cancelled",)]


_LISTENING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' "
    "AND state = 'idle'"
)


def test_a_worker_is_woken_by_a_job_that_this_release_defers(url: str) -> None:
    """It would look by itself after a minute."""
    worker = ("-m", "procrastinate", "--app=plain_app.app", "worker", "--fetch-job-polling-interval=60")
    with running_3x(url, *worker):
        wait_until(lambda: execute(url, "SELECT count(*) FROM procrastinate_workers") == [(1,)])
        wait_until(lambda: execute(url, _LISTENING) != [(0,)])
        execute(
            url,
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args) "
            "VALUES ('default', 'add', '{\"a\": 1, \"b\": 1}')",
        )
        wait_until(lambda: execute(url, "SELECT status::text FROM procrastinate_jobs") == [("succeeded",)])
