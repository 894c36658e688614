"""A job of a periodic task outside of its schedule: its options, and what stands in its way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate.dashboard import Access, wsgi
from procrastinate.types import JSONDict
from procrastinate.unique import Unique


@pytest.fixture
def app(database_url: str) -> Iterator[procrastinate.App]:
    app = procrastinate.App(connector=database_url)
    with app.open():
        yield app


def press(app: procrastinate.App, task: str, **options: Any) -> str:
    """Press the button of a periodic task, and return the code of the message."""
    pages = wsgi(app, authorize=Access.everything("ada"), **options)
    headers = {"Sec-Fetch-Site": "same-origin"}
    with httpx.Client(transport=httpx.WSGITransport(app=pages), base_url="http://test/", headers=headers) as client:
        answer = client.post("periodic/run", data={"task": task, "periodic_id": ""})
    assert answer.status_code == 303
    return answer.headers["location"].rpartition("done=")[2]


def stored(database_url: str) -> list[tuple[Any, ...]]:
    """Return the task, queue, arguments without the time, and metadata of all jobs."""
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        statement = "SELECT task_name, queue_name, args - 'timestamp', meta FROM procrastinate_jobs ORDER BY id"
        rows = [tuple(row) for row in connection.exec_driver_sql(statement)]
    engine.dispose()
    return rows


def test_the_job_has_the_options_of_the_schedule_and_is_described(app: procrastinate.App, database_url: str) -> None:
    @app.on_defer
    def describe(defer: procrastinate.defer_hooks.Defer) -> None:
        defer.meta["by"] = "hook"

    @app.periodic(cron="0 0 1 1 *", queue="night", task_kwargs={"a": 1}, schedule_in={"hours": 1})
    @app.task(name="report")
    def report(timestamp: int, a: int) -> None: ...

    actions: list[JSONDict] = []
    assert press(app, "report", on_action=actions.append) == "run_periodic"
    assert stored(database_url) == [("report", "night", {"a": 1}, {"by": "hook"})]
    (action,) = actions
    assert (action["action"], action["task"], action["user"], len(action["jobs"])) == (
        "run_periodic",
        "report",
        "ada",
        1,
    )


@pytest.mark.parametrize(
    ("options", "second", "jobs"),
    [
        ({"queueing_lock": "only one"}, "periodic_waits", 1),
        ({"unique": Unique(by=lambda arguments: "only one")}, "periodic_waits", 1),
        ({"unique": Unique(by=lambda arguments: "only one", on_conflict="skip")}, "run_periodic", 1),
        ({}, "run_periodic", 2),
    ],
    ids=["queueing lock", "unique key", "skip", "neither"],
)
def test_a_job_that_waits_already_is_told(
    app: procrastinate.App, database_url: str, options: dict[str, Any], second: str, jobs: int
) -> None:
    @app.periodic(cron="0 0 1 1 *")
    @app.task(name="report", **options)
    def report(timestamp: int) -> None: ...

    assert [press(app, "report"), press(app, "report")] == ["run_periodic", second]
    assert len(stored(database_url)) == jobs


def test_an_error_of_the_code_of_the_task_is_logged(
    app: procrastinate.App, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def make_lock(job: Any) -> str:
        raise ValueError("no lock")

    @app.periodic(cron="0 0 1 1 *")
    @app.task(name="report", lock=make_lock)
    def report(timestamp: int) -> None: ...

    assert press(app, "report") == "periodic_failed"
    assert stored(database_url) == []
    assert "A job of the periodic task report cannot be deferred" in caplog.text


def test_hooks_see_that_the_database_refuses_the_job(app: procrastinate.App, engine: sa.Engine) -> None:
    """A span around the defer ends with an error."""
    seen: list[str] = []

    @app.on_defer
    @contextlib.contextmanager
    def watch(defer: procrastinate.defer_hooks.Defer) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            seen.append(type(error).__name__)
            raise
        seen.append("deferred")

    @app.periodic(cron="0 0 1 1 *")
    @app.task(name="report")
    def report(timestamp: int) -> None: ...

    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '42501'; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER refuses BEFORE INSERT ON procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION refuses()"
        )
    assert press(app, "report") == "failed_rights"
    assert seen == ["ConnectorException"]
