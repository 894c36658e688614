"""What public programs do with 3.x, beyond its documented interface, works here or is refused with the way out."""

from __future__ import annotations

import datetime
import importlib.resources
import subprocess
import sys
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate import exceptions, sql
from procrastinate.alembic import emit_schema
from procrastinate.core import Status
from procrastinate.testing import InMemoryConnector
from tests.database import libpq_url
from tests.moving.release import PROGRAMS, environment_of, run_3x
from tests.moving.rows import execute
from tests.schema.snapshot import take_snapshot

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(params=["memory", "database"])
def app(request: pytest.FixtureRequest) -> procrastinate.App:
    """An app that is not open yet."""
    in_memory = request.param == "memory"
    connector: Any = InMemoryConnector() if in_memory else request.getfixturevalue("database_url")
    return procrastinate.App(connector=connector)


def test_to_finish_a_job_that_has_ended_is_an_error_with_the_text_of_3x(app: procrastinate.App) -> None:
    async def finish() -> None:
        async with app.open_async():
            job_id = await app.configure_task("t").defer_async()
            await app.job_manager.finish_job_by_id_async(job_id, Status.SUCCEEDED, delete_job=False)
            with pytest.raises(exceptions.ConnectorException, match='not in "doing" or "todo" status'):
                await app.job_manager.finish_job_by_id_async(job_id, Status.SUCCEEDED, delete_job=False)
            with pytest.raises(exceptions.JobNotFinishable):
                await app.job_manager.finish_job_by_id_async(99, Status.FAILED, delete_job=True)

    import asyncio

    asyncio.run(finish())


async def test_a_job_that_its_worker_has_lost_cannot_be_finished(database_url: str) -> None:
    app = procrastinate.App(connector=database_url)
    async with app.open_async():
        await app.configure_task("t").defer_async()
        worker_id = await app.job_manager.register_worker()
        job = await app.job_manager.fetch_job(queues=None, worker_id=worker_id)
        assert job is not None
        assert job.id is not None
        await app.job_manager.retry_job_by_id_async(job.id, NOW)
        with pytest.raises(exceptions.JobNotFinishable, match="another worker has it"):
            await app.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=False)


@pytest.mark.parametrize("name", ["defer_jobs_all", "fetch_job_one", "finish_job_run", "generic_execute"])
def test_a_connector_for_tests_that_overrides_a_query_of_3x_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(TypeError, match=rf"Inline overrides {name}.*RunAtDefer"):
        type("Inline", (InMemoryConnector,), {name: lambda *args, **kwargs: None})


def test_a_connector_for_tests_may_be_extended() -> None:
    assert type("Mine", (InMemoryConnector,), {"defer": 1, "run": InMemoryConnector.run})().jobs == {}


async def test_events_that_a_test_writes_by_hand_tell_how_old_a_job_is() -> None:
    connector = InMemoryConnector()
    app = procrastinate.App(connector=connector)
    for _ in range(2):
        job_id = await app.configure_task("t").defer_async()
        await app.job_manager.finish_job_by_id_async(job_id, Status.SUCCEEDED, delete_job=False)
    connector.events[1] = [{"type": "succeeded", "at": NOW - datetime.timedelta(hours=5)}]
    await app.job_manager.delete_old_jobs(nb_hours=4)
    assert list(connector.jobs) == [2]


def test_a_manager_of_the_users_is_refused_with_the_reason() -> None:
    app = procrastinate.App(connector=InMemoryConnector())
    with pytest.raises(AttributeError, match="no longer has the job"):
        app.job_manager = app.job_manager


def test_the_stop_event_of_a_worker_stops_it() -> None:
    app = procrastinate.App(connector=InMemoryConnector())
    worker = procrastinate.worker.Worker(app)
    assert not worker._stop_event.is_set()
    worker._stop_event.set()
    assert worker._stop_event.is_set()
    assert worker.stop_requested


# SQL that programs read


def test_schema_sql_is_the_schema() -> None:
    """After a change: make migrations."""
    assert emit_schema.PATH.read_text() == emit_schema.schema()


def test_a_history_that_runs_schema_sql_and_the_migrations_of_3x_ends_with_the_schema(
    empty_database_url: str, database_url: str
) -> None:
    package = importlib.resources.files("procrastinate.sql")
    names = sorted(file.name for file in package.joinpath("migrations").iterdir() if file.name.endswith(".sql"))
    listing = (
        "import importlib.resources as r; print(*(f.name for f in r.files('procrastinate.sql.migrations').iterdir()))"
    )
    listed = run_3x(database_url, "-c", listing).split()
    assert names == sorted(name for name in listed if name.endswith(".sql"))
    with psycopg.connect(libpq_url(empty_database_url), autocommit=True) as connection:
        connection.execute(package.joinpath("schema.sql").read_text().encode())
        for name in names:
            connection.execute(package.joinpath("migrations").joinpath(name).read_text().encode())
    snapshots = []
    for url in (empty_database_url, database_url):
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection_:
            snapshots.append(take_snapshot(connection_))
    assert snapshots[0] == snapshots[1]


async def test_queries_of_3x_are_executed_by_their_names(database_url: str) -> None:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=libpq_url(database_url)))
    async with app.open_async():
        one = app.connector.execute_query_one_async
        rows = await app.connector.execute_query_all_async(
            "SELECT unnest(procrastinate_defer_jobs_v1(ARRAY[ROW('q','t',0,NULL,NULL,'{}',NULL)]"
            "::procrastinate_job_to_defer_v1[])) AS id"
        )
        assert rows == [{"id": 1}]
        worker = await one(sql.queries["register_worker"])
        fetched = await one(sql.queries["fetch_job"], queues=None, worker_id=worker["worker_id"])
        assert (fetched["id"], fetched["status"]) == (1, "doing")
        await one(sql.queries["finish_job"], job_id=1, status="succeeded", delete_job=False)
        assert await one(sql.queries["get_job_status"], job_id=1) == {"status": "succeeded"}
        assert await one(sql.queries["cancel_job"], job_id=1, abort=False, delete_job=False) == {"id": None}
        assert await one(sql.queries["check_connection"]) == {"check": "procrastinate_jobs"}
        assert await one(sql.queries["count_jobs_status"]) == {"count": 1, "status": "succeeded"}


def test_every_query_names_a_function_and_parameters_that_exist(database_url: str) -> None:
    import re

    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        for name, query in sql.queries.items():
            number = iter(range(1, 20))
            numbered = re.sub(r"%\(\w+\)s", lambda _, number=number: f"${next(number)}", query)  # type: ignore[misc]
            connection.execute(f"PREPARE {name} AS {numbered}".encode())


# Django


def in_the_shop(url: str, code: str) -> str:
    """Run code in a shell of the shop."""
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--verbosity=0", "-c", code],
        env=environment_of(url),
        cwd=PROGRAMS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_app_that_is_assigned_to_current_app_takes_the_jobs(database_url: str) -> None:
    code = """
from unittest import mock
from procrastinate.contrib.django import app, procrastinate_app
from procrastinate.testing import InMemoryConnector
from orders.tasks import pay
memory = InMemoryConnector()
own = procrastinate_app.current_app
procrastinate_app.current_app = own.with_connector(memory)
pay.defer(order_id=1)
print(len(memory.jobs), procrastinate_app.current_app is own, app is own)
procrastinate_app.current_app = own
pay.defer(order_id=2)
with mock.patch.object(procrastinate_app, "current_app", own.with_connector(InMemoryConnector())):
    pay.defer(order_id=3)
print(len(memory.jobs), procrastinate_app.current_app is own)
"""
    assert in_the_shop(database_url, code) == "1 False True\n1 True\n"
    assert execute(database_url, "SELECT args ->> 'order_id' FROM procrastinate_jobs") == [("2",)]


def test_migrations_that_were_copied_from_3x_do_nothing(database_url: str) -> None:
    code = """
from procrastinate.contrib.django.migrations_utils import RunProcrastinateSQL
operation = RunProcrastinateSQL(name="03.00.00_01_pre_cancel_notification.sql")
name, args, kwargs = operation.deconstruct()
assert (name, args) == ("RunProcrastinateSQL", []) and RunProcrastinateSQL(**kwargs).sql == operation.sql
from django.db import connection
connection.cursor().execute(operation.sql)
print("done")
"""
    assert in_the_shop(database_url, code) == "done\n"


# Rights


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("INSERT ON procrastinate_errors", "GRANT INSERT ON procrastinate_errors TO"),
        ("ALL ON procrastinate_results", "GRANT SELECT, INSERT, UPDATE ON procrastinate_results TO"),
        ("DELETE ON procrastinate_workers", "GRANT DELETE ON procrastinate_workers TO"),
    ],
)
@pytest.mark.parametrize("wait", [False, True])
def test_a_worker_whose_role_lacks_a_right_ends_and_names_it(
    database_url: str, lost: str, named: str, wait: bool
) -> None:
    role = f"worker_{sa.make_url(database_url).database}"
    execute(database_url, f"CREATE ROLE {role}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    execute(database_url, f"REVOKE {lost} FROM {role}")
    # A worker that is not to wait, and finds no job, ends before it looks at its rights.
    execute(database_url, "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', 'task')")
    app = procrastinate.App(connector=sa.make_url(database_url).update_query_dict({"options": f"-crole={role}"}))
    try:
        with pytest.raises(exceptions.MissingGrant, match=named):
            app.run_worker(wait=wait, install_signal_handlers=False)
    finally:
        execute(database_url, f"DROP OWNED BY {role}; DROP ROLE {role}")
