"""The schema is applied, printed and checked through an app."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate import exceptions
from procrastinate.alembic import runner
from procrastinate.schema import SchemaManager
from tests.database import libpq_url


def test_applying_makes_the_tables(empty_database_url: str) -> None:
    """And applying again does nothing."""
    app = procrastinate.App(connector=empty_database_url)
    with app.open():
        assert not app.check_connection()
        app.schema_manager.apply_schema()
        assert app.check_connection()
        app.configure_task("task").defer()
        app.schema_manager.apply_schema()
        assert len(app.job_manager.list_jobs()) == 1
        app.schema_manager.check_schema()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_applying_from_async_code(empty_database_url: str, driver: str) -> None:
    """On an asynchronous engine."""
    app = procrastinate.App(connector=empty_database_url.replace("+psycopg", f"+{driver}"))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        assert await app.check_connection_async()


def test_the_script_makes_the_same_tables(empty_database_url: str) -> None:
    """For whoever lets somebody else run SQL."""
    with psycopg.connect(libpq_url(empty_database_url), autocommit=True) as connection:
        connection.execute(SchemaManager.get_schema().encode())
    app = procrastinate.App(connector=empty_database_url)
    with app.open():
        app.schema_manager.check_schema()
        app.configure_task("task").defer(percent="%")
        app.schema_manager.apply_schema()


async def test_a_missing_schema_is_named(empty_database_url: str) -> None:
    """With the command that helps."""
    app = procrastinate.App(connector=empty_database_url)
    async with app.open_async():
        with pytest.raises(exceptions.SchemaNotApplied, match="schema --apply"):
            app.configure_task("task").defer()
        with pytest.raises(exceptions.SchemaNotApplied, match="schema --apply"):
            await app.configure_task("task").defer_async()


def test_an_old_schema_is_named(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both revisions."""
    applied = runner.head_revision()
    monkeypatch.setattr(runner, "older_revisions", lambda: {applied})
    monkeypatch.setattr(runner, "head_revision", lambda: "procrastinate_9999")
    app = procrastinate.App(connector=database_url)
    with app.open(), pytest.raises(exceptions.SchemaNotApplied, match=f"{applied}.*procrastinate_9999"):
        app.schema_manager.check_schema()


async def test_another_postgresql_schema_than_public(empty_database_url: str, engine: sa.Engine) -> None:
    """By the search path of the connection; the worker's too."""
    url = sa.make_url(empty_database_url)
    with psycopg.connect(libpq_url(empty_database_url)) as connection:
        connection.execute("CREATE SCHEMA jobs")
    app = procrastinate.App(connector=url.update_query_dict({"options": "-csearch_path=jobs"}))
    ran = []

    @app.task(name="task")
    def task() -> None:
        ran.append(True)

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await task.defer_async()
        await app.run_worker_async(wait=False, install_signal_handlers=False)
    assert ran
    with psycopg.connect(libpq_url(empty_database_url)) as connection:
        schemas = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'procrastinate%'"
        assert connection.execute(schemas).fetchall() == [("jobs",)]
