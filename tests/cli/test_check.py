"""``procrastinate check``: waiting jobs that do not fit the code."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import App, JobContext, core
from procrastinate.deploy_check import DeployCheck, check_waiting_jobs, check_waiting_jobs_async
from tests.cli.command import Command


@pytest.fixture
def app(engine: sa.Engine) -> Any:
    """Return an app with tasks of several signatures."""
    app = App(connector=engine)

    @app.task(name="exact", aliases=["old name"], pass_context=True)
    def exact(context: JobContext, a: int, *, b: int = 1) -> None: ...

    @app.task(name="open")
    def open_(a: int, **others: int) -> None: ...

    with app.open():
        yield app


def defer(connection: sa.Connection, task: str, args: str = "{}", **columns: str) -> int:
    """Add a job by SQL."""
    values = {"queue_name": "'q'", **columns}
    names, expressions = ", ".join(["task_name", "args", *values]), ", ".join([":task", ":args", *values.values()])
    statement = f"INSERT INTO procrastinate_jobs ({names}) VALUES ({expressions}) RETURNING id"  # noqa: S608
    statement = statement.replace(":args", "CAST(:args AS jsonb)")
    return int(connection.execute(sa.text(statement), {"task": task, "args": args}).scalar_one())


def codes(checked: DeployCheck) -> list[tuple[str, str, int | None]]:
    """Return code, subject and number of jobs of each problem."""
    return [(one.code, one.subject, one.jobs) for one in checked.problems]


def test_jobs_that_fit_are_no_problem(app: App, connection: sa.Connection) -> None:
    defer(connection, "exact", '{"a": 1}')
    defer(connection, "old name", '{"a": 1, "b": 2}')
    defer(connection, "open", '{"a": 1, "x": 2}')
    checked = check_waiting_jobs(app)
    assert (checked.problems, checked.looked_at, checked.is_complete) == ((), 3, True)


def test_jobs_that_do_not_fit_are_grouped_by_task_and_names(app: App, connection: sa.Connection) -> None:
    first = defer(connection, "exact", '{"b": 1}')
    defer(connection, "exact", '{"b": 2}', scheduled_at="now() + interval '1 day'")
    defer(connection, "exact", '{"a": 1, "c": 1}', lock="'k'", readiness="2")
    checked = check_waiting_jobs(app)
    assert codes(checked) == [("argument-missing", "exact", 2), ("argument-unknown", "exact", 1)]
    assert checked.problems[0].job_id == first
    assert "'a'" in checked.problems[0].text
    assert "'c'" in checked.problems[1].text


def test_tasks_that_are_not_there_and_arguments_that_are_no_object(app: App, connection: sa.Connection) -> None:
    defer(connection, "gone")
    defer(connection, "open", "[1]")
    assert codes(check_waiting_jobs(app)) == [("task-unknown", "gone", 1), ("arguments-unreadable", "open", 1)]


def test_jobs_that_run_or_have_ended_are_left_out(app: App, connection: sa.Connection) -> None:
    defer(connection, "gone", status="'doing'")
    defer(connection, "gone", status="'failed'")
    assert check_waiting_jobs(app).problems == ()


def test_large_arguments_are_not_read(app: App, connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args) SELECT 'q', 'exact', "
        "jsonb_build_object('x', string_agg(md5(n::text), '')) FROM generate_series(1, 20000) AS n"
    )
    assert check_waiting_jobs(app).problems == ()


async def test_a_program_that_runs_some_queues_checks_those(database_url: str, connection: sa.Connection) -> None:
    app = App(connector=database_url)
    defer(connection, "gone")
    async with app.open_async():
        assert codes(await check_waiting_jobs_async(app, queues=["other"])) == []
        assert len(codes(await check_waiting_jobs_async(app, queues=["q"]))) == 1


def test_a_queue_that_no_worker_takes_is_a_problem(app: App, connection: sa.Connection) -> None:
    defer(connection, "exact", '{"a": 1}')
    assert check_waiting_jobs(app).problems == ()
    worker_id = core.register_worker(connection)
    connection.exec_driver_sql(f"UPDATE procrastinate_workers SET queues = '{{mail}}' WHERE id = {worker_id}")  # noqa: S608
    assert codes(check_waiting_jobs(app)) == [("queue-unserved", "q", None)]


def test_the_command_fails_if_a_job_does_not_fit(database_url: str, connection: sa.Connection) -> None:
    command = Command(database_url)
    assert command.run("check").stdout == "Looked at 0 waiting jobs: 0 problems\n"
    defer(connection, "gone\x1b[31m")
    finished = command.run("check", check=False)
    assert finished.returncode == 1
    assert finished.stdout.startswith("task-unknown: gone")
    assert "\x1b" not in finished.stdout
    answer = json.loads(command.run("check", "--json", check=False).stdout)
    assert answer["problems"][0]["code"] == "task-unknown"
