"""Tables that this release cannot work on are refused wherever they would be used, and nothing is written there."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate import core, exceptions
from procrastinate.core import Status
from tests.database import libpq_url, new_job
from tests.schema.tables_of_3x import count_jobs, make_tables_of_3x

OF_3X = r"^The tables are of Procrastinate 3\.x, and are not upgraded yet: run `procrastinate schema --apply`"


@pytest.fixture
def url_of_3x(empty_database_url: str) -> str:
    """A database with tables of 3.x and a job."""
    make_tables_of_3x(empty_database_url)
    return empty_database_url


def execute(url: str, statement: str) -> None:
    """Run plain SQL."""
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        connection.execute(statement.encode())


DEFERS: dict[str, Callable[[procrastinate.App], Any]] = {
    "one": lambda app: app.configure_task("task").defer(),
    "scheduled": lambda app: app.configure_task("task", schedule_in={"days": 1}).defer(),
    "with a lock": lambda app: app.configure_task("task", lock="l").defer(),
    "with a queueing lock": lambda app: app.configure_task("task", queueing_lock="l").defer(),
    "skip": lambda app: app.configure_task("task", queueing_lock="l", on_conflict="skip").defer(),
    "replace": lambda app: app.configure_task("task", queueing_lock="l", on_conflict="replace").defer(),
    "alike": lambda app: app.configure_task("task").batch_defer({"n": 1}, {"n": 2}),
    "different": lambda app: app.configure_task("task", queueing_lock="l").batch_defer({"n": 1}),
}


@pytest.mark.parametrize("defer", DEFERS.values(), ids=DEFERS)
def test_no_job_is_deferred_into_tables_of_3x(url_of_3x: str, defer: Callable[[procrastinate.App], Any]) -> None:
    app = procrastinate.App(connector=url_of_3x)
    with app.open(), pytest.raises(exceptions.TablesOf3x, match=OF_3X):
        defer(app)
    assert count_jobs(url_of_3x) == 1


CHANGES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "cancelled": (core.cancel_job, {"job_id": 1}),
    "cancelled or aborted": (core.cancel_job, {"job_id": 1, "abort": True}),
    "cancelled and deleted": (core.cancel_job, {"job_id": 1, "delete": True}),
    "deleted for its age": (core.delete_finished_jobs, {"older_than": datetime.timedelta(0), "statuses": list(Status)}),
}


@pytest.mark.parametrize(("operation", "arguments"), CHANGES.values(), ids=CHANGES)
def test_no_job_of_3x_is_cancelled_or_deleted(
    url_of_3x: str, operation: Callable[..., Any], arguments: dict[str, Any]
) -> None:
    app = procrastinate.App(connector=url_of_3x)
    with app.open(), pytest.raises(exceptions.TablesOf3x, match=OF_3X):
        app.connector.run(operation, **arguments)
    assert count_jobs(url_of_3x) == 1


@pytest.mark.parametrize("replace", [False, True])
def test_no_tick_is_deferred_into_tables_of_3x(url_of_3x: str, replace: bool) -> None:
    app = procrastinate.App(connector=url_of_3x)
    with app.open(), pytest.raises(exceptions.TablesOf3x, match=OF_3X):
        app.connector.run(core.defer_tick, new_job(), periodic_id="", defer_timestamp=1, replace=replace)
    assert count_jobs(url_of_3x) == 1


def test_a_worker_does_not_start_on_tables_of_3x(url_of_3x: str) -> None:
    app = procrastinate.App(connector=url_of_3x)
    with pytest.raises(exceptions.TablesOf3x, match=OF_3X):
        app.run_worker(wait=False, install_signal_handlers=False)


def test_the_check_of_the_schema_refuses_tables_of_3x(url_of_3x: str) -> None:
    app = procrastinate.App(connector=url_of_3x)
    with app.open(), pytest.raises(exceptions.TablesOf3x, match=OF_3X):
        app.schema_manager.check_schema()


def test_the_schema_is_not_applied_over_tables_that_only_look_like_those_of_3x(url_of_3x: str) -> None:
    app = procrastinate.App(connector=url_of_3x)
    with app.open(), pytest.raises(exceptions.SchemaConflict, match=r"Missing: 03\.00\.00_50_post"):
        app.schema_manager.apply_schema()
    assert count_jobs(url_of_3x) == 1


def test_tables_of_3x_in_another_schema_are_found_by_the_search_path(empty_database_url: str) -> None:
    make_tables_of_3x(empty_database_url, "old")
    execute(empty_database_url, "CREATE SCHEMA new")
    url = sa.make_url(empty_database_url).update_query_dict({"options": "-csearch_path=new,old"})
    app = procrastinate.App(connector=url)
    with app.open():
        with pytest.raises(exceptions.TablesOf3x):
            app.schema_manager.check_schema()
        app.schema_manager.apply_schema()
        app.schema_manager.check_schema()
        assert app.configure_task("task").defer() == 1
    assert (count_jobs(empty_database_url, "old"), count_jobs(empty_database_url, "new")) == (1, 1)


def test_an_empty_database_lacks_all_tables(empty_database_url: str) -> None:
    """One sentence says so. A list of all tables would hide it."""
    app = procrastinate.App(connector=empty_database_url)
    with (
        app.open(),
        pytest.raises(
            exceptions.SchemaNotApplied, match="The database has no tables of Procrastinate: run "
        ) as refused,
    ):
        app.schema_manager.check_schema()
    assert "procrastinate_" not in str(refused.value)


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("DROP TABLE procrastinate_errors", "Missing: procrastinate_errors"),
        ("ALTER TABLE procrastinate_workers DROP COLUMN called_for", "Missing: procrastinate_workers.called_for"),
    ],
)
def test_tables_without_a_revision_that_are_not_whole_are_refused_by_name(
    database_url: str, lost: str, named: str
) -> None:
    execute(database_url, f"DROP TABLE procrastinate_alembic_version; {lost}")
    app = procrastinate.App(connector=database_url)
    with app.open(), pytest.raises(exceptions.SchemaNotApplied, match=named):
        app.schema_manager.check_schema()
    with pytest.raises(exceptions.SchemaNotApplied, match=named):
        app.run_worker(wait=False, install_signal_handlers=False)


def test_tables_that_a_role_may_not_reach_are_not_called_missing_alone(database_url: str) -> None:
    """The schema may be there for others: its name is said, and what the role lacks."""
    role = f"outsider_{sa.make_url(database_url).database}"
    execute(database_url, "CREATE SCHEMA queue; ALTER TABLE procrastinate_jobs SET SCHEMA queue")
    execute(database_url, f"DROP TABLE procrastinate_alembic_version; CREATE ROLE {role}")
    url = sa.make_url(database_url).update_query_dict({"options": f"-crole={role} -csearch_path=queue,public"})
    app = procrastinate.App(connector=url)
    try:
        with app.open(), pytest.raises(exceptions.SchemaNotApplied, match=r"in the schema queue.*GRANT USAGE"):
            app.schema_manager.check_schema()
    finally:
        execute(database_url, f"DROP ROLE {role}")


def test_tables_without_rights_on_them_are_not_called_missing(database_url: str) -> None:
    role = f"reader_{sa.make_url(database_url).database}"
    execute(database_url, f"DROP TABLE procrastinate_alembic_version; CREATE ROLE {role}")
    url = sa.make_url(database_url).update_query_dict({"options": f"-crole={role}"})
    app = procrastinate.App(connector=url)
    try:
        with app.open():
            app.schema_manager.check_schema()
            with pytest.raises(exceptions.ConnectorException, match="permission denied") as caught:
                app.configure_task("task").defer()
            assert not isinstance(caught.value, exceptions.SchemaNotApplied)
    finally:
        execute(database_url, f"DROP ROLE {role}")
