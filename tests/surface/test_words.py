"""Words and values that end up in databases, logs, dashboards and other programs."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate import jobs, manager, periodic, worker
from procrastinate.core.channels import channels_for
from procrastinate.core.enums import EventType
from procrastinate.job_context import AbortReason
from procrastinate.testing import InMemoryConnector
from procrastinate.types import JobToDefer, TimeDeltaParams
from tests import database

COLUMNS = {
    "procrastinate_jobs": "id queue_name task_name priority lock queueing_lock args status scheduled_at attempts "
    "abort_requested worker_id",
    "procrastinate_events": "id job_id type at",
    "procrastinate_periodic_defers": "id task_name defer_timestamp job_id periodic_id",
    "procrastinate_workers": "id last_heartbeat",
}


def test_statuses_and_choices() -> None:
    assert [status.value for status in jobs.Status] == [
        *("todo", "doing", "succeeded", "failed", "cancelled", "aborting", "aborted")
    ]
    assert [one.value for one in jobs.DeleteJobCondition] == ["never", "successful", "always"]
    assert [reason.name for reason in AbortReason][:2] == ["USER_REQUEST", "SHUTDOWN"]
    assert {event.value for event in EventType} == {
        *("deferred", "started", "deferred_for_retry", "failed", "succeeded", "cancelled", "abort_requested"),
        *("aborted", "scheduled", "retried"),
    }


def test_constants() -> None:
    assert (jobs.DEFAULT_QUEUE, jobs.DEFAULT_PRIORITY) == ("default", 0)
    assert (worker.WORKER_NAME, worker.WORKER_CONCURRENCY) == ("worker", 1)
    assert (worker.FETCH_JOB_POLLING_INTERVAL, worker.ABORT_JOB_POLLING_INTERVAL) == (5.0, 5.0)
    assert (periodic.MARGIN, periodic.MAX_DELAY) == (0.5, 600)
    assert TimeDeltaParams.__annotations__.keys() == {
        *("weeks", "days", "hours", "minutes", "seconds", "milliseconds", "microseconds")
    }
    assert JobToDefer._fields == (
        *("queue_name", "task_name", "priority", "lock", "queueing_lock", "args", "scheduled_at"),
    )


def test_the_builtin_task_has_its_names() -> None:
    app = procrastinate.App(connector=InMemoryConnector())
    names = {"builtin:procrastinate.builtin_tasks.remove_old_jobs", "procrastinate.builtin_tasks.remove_old_jobs"}
    assert names <= app.tasks.keys()
    assert {name.rpartition(".")[2] for name in app.tasks} == {"remove_old_jobs", "wait_for_signal"}
    (task,) = {app.tasks[name] for name in names}
    assert (task.name, task.queue) == ("builtin:procrastinate.builtin_tasks.remove_old_jobs", "builtin")


def test_tables_have_their_columns_in_their_order(connection: sa.Connection) -> None:
    inspector = sa.inspect(connection)
    for table, columns in COLUMNS.items():
        found = [column["name"] for column in inspector.get_columns(table)]
        assert found[: len(columns.split())] == columns.split()


def test_the_queueing_lock_has_the_constraint_of_that_name(connection: sa.Connection) -> None:
    indexes = {index["name"] for index in sa.inspect(connection).get_indexes("procrastinate_jobs")}
    assert manager.QUEUEING_LOCK_CONSTRAINT in indexes


def test_other_programs_write_sql_as_the_documentation_says(connection: sa.Connection) -> None:
    text = (pathlib.Path(__file__).parents[2] / "docs" / "differences-schema.md").read_text()
    (block,) = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    insert, cancel, abort, rest = block.split(";")
    assert connection.exec_driver_sql(insert).scalar() == 1
    connection.exec_driver_sql(cancel)
    connection.exec_driver_sql(insert)
    connection.exec_driver_sql("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = 2")
    connection.exec_driver_sql(abort.replace("id = 1", "id = 2"))
    assert not rest.strip()
    history = "SELECT job_id, type::text FROM procrastinate_events ORDER BY id"
    assert connection.exec_driver_sql(history).all() == [
        *((1, "deferred"), (1, "cancelled"), (2, "deferred"), (2, "started"), (2, "abort_requested"))
    ]


def test_channels() -> None:
    assert channels_for(None) == ["procrastinate_any_queue_v1"]
    assert channels_for(["default", "q"]) == ["procrastinate_queue_v1#default", "procrastinate_queue_v1#q"]


@pytest.fixture
def heard(database_url: str) -> Any:
    """Listens on the channels of 3.x, and returns what has come since."""
    with psycopg.connect(database.libpq_url(database_url), autocommit=True) as listening:
        listening.execute('LISTEN "procrastinate_any_queue_v1"; LISTEN "procrastinate_queue_v1#default"')
        yield lambda: [(one.channel, json.loads(one.payload)) for one in listening.notifies(timeout=5, stop_after=2)]


def test_payloads(database_url: str, heard: Any, connection: sa.Connection) -> None:
    app = procrastinate.App(connector=database_url)
    with app.open():
        job_id = app.configure_task("task").defer()
        for channel, payload in (messages := heard()):
            assert channel in ("procrastinate_any_queue_v1", "procrastinate_queue_v1#default")
            assert (payload["type"], payload["job_id"]) == ("job_inserted", job_id)
        assert len(messages) == 2
        connection.execute(sa.text("UPDATE procrastinate_jobs SET status = 'doing'"))
        assert app.job_manager.cancel_job_by_id(job_id, abort=True)
        assert [payload for _, payload in heard()] == [{"type": "abort_job_requested", "job_id": job_id}] * 2
