"""An app applies, prints and checks the schema."""

from __future__ import annotations

import asyncio
import pathlib
import re
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import procrastinate
from procrastinate import exceptions
from procrastinate.alembic import revisions
from procrastinate.schema import SchemaManager
from tests.database import libpq_url


def test_applying_makes_the_tables(empty_database_url: str) -> None:
    """Applying the schema again does nothing."""
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
    """The app has an asynchronous engine."""
    app = procrastinate.App(connector=empty_database_url.replace("+psycopg", f"+{driver}"))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        assert await app.check_connection_async()


def test_the_script_makes_the_same_tables(empty_database_url: str) -> None:
    """The script is for teams whose DBA runs the SQL."""
    with psycopg.connect(libpq_url(empty_database_url), autocommit=True) as connection:
        connection.execute(SchemaManager.get_schema().encode())
    app = procrastinate.App(connector=empty_database_url)
    with app.open():
        app.schema_manager.check_schema()
        app.configure_task("task").defer(percent="%")
        app.schema_manager.apply_schema()


async def test_a_missing_schema_is_named(empty_database_url: str) -> None:
    """The error names the command to run."""
    app = procrastinate.App(connector=empty_database_url)
    async with app.open_async():
        with pytest.raises(exceptions.SchemaNotApplied, match="schema --apply"):
            app.configure_task("task").defer()
        with pytest.raises(exceptions.SchemaNotApplied, match="schema --apply"):
            await app.configure_task("task").defer_async()


def _older_than_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this release one more revision."""
    known = (*revisions.known_revisions(), "procrastinate_9999")
    monkeypatch.setattr(revisions, "known_revisions", lambda: known)


def _newer_than_the_release(url: str) -> None:
    """Mark the schema as applied by a release with one more revision."""
    _execute(url, "UPDATE procrastinate_alembic_version SET version_num = 'procrastinate_9999'")


def _execute(url: str, sql: str) -> None:
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        connection.execute(sql.encode())


async def test_an_older_schema_is_named(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names both revisions and the commands to run. No worker starts on such a schema."""
    applied = revisions.head_revision()
    _older_than_the_release(monkeypatch)
    app = procrastinate.App(connector=database_url)
    older = f"{applied}.*procrastinate_9999.*procrastinate schema --apply.*manage.py migrate"
    with app.open(), pytest.raises(exceptions.SchemaNotApplied, match=older):
        app.schema_manager.check_schema()
    async with app.open_async():
        with pytest.raises(exceptions.SchemaNotApplied, match=older):
            await app.schema_manager.check_schema_async()
        with pytest.raises(exceptions.SchemaNotApplied, match=older):
            await app.run_worker_async(wait=False, install_signal_handlers=False)
        assert await app.connector.run_async(_worker_ids) == []


def _worker_ids(connection: sa.Connection) -> list[int]:
    return list(connection.scalars(sa.text("SELECT id FROM procrastinate_workers")))


async def test_on_a_newer_schema_a_worker_goes_on_with_a_warning(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """This happens while a new release is rolled out."""
    _newer_than_the_release(database_url)
    app = procrastinate.App(connector=database_url)
    async with app.open_async():
        job_id = await app.configure_task("builtin_tasks.remove_old_jobs").defer_async(max_hours=1)
        await app.run_worker_async(wait=False, install_signal_handlers=False, unknown_task_timeout=0)
        assert (await app.job_manager.get_job_status_async(job_id)).value == "failed"  # the task does not exist
    warned = [record for record in caplog.records if getattr(record, "action", None) == "schema_is_newer"]
    assert [record.levelname for record in warned] == ["WARNING"]
    assert "procrastinate_9999" in warned[0].getMessage()


def test_a_newer_schema_cannot_be_applied_by_an_older_release(database_url: str) -> None:
    """This happens after a rollback of a release. Alembic alone would say that it cannot locate a revision."""
    _newer_than_the_release(database_url)
    app = procrastinate.App(connector=database_url)
    with app.open(), pytest.raises(exceptions.SchemaConflict, match=r"procrastinate_9999.*a newer release has applied"):
        app.schema_manager.apply_schema()


@pytest.mark.parametrize("lost", ["DELETE FROM", "DROP TABLE"])
def test_tables_without_a_revision(database_url: str, lost: str) -> None:
    """PostgreSQL alone would say that a type already exists. The test follows the message's advice."""
    _execute(database_url, f"{lost} procrastinate_alembic_version")
    app = procrastinate.App(connector=database_url)
    with app.open():
        app.schema_manager.check_schema()
        with pytest.raises(exceptions.SchemaConflict, match="name it, and repeat") as caught:
            app.schema_manager.apply_schema()
        for statement in re.findall(r"(?:CREATE TABLE|INSERT INTO) [^;]+;", str(caught.value)):
            _execute(database_url, statement)
        app.schema_manager.apply_schema()
        assert app.configure_task("task").defer() == 1


def test_what_is_left_of_an_earlier_schema(empty_database_url: str) -> None:
    """The error names all remaining objects."""
    _execute(empty_database_url, "CREATE TYPE procrastinate_job_status AS ENUM ('todo')")
    app = procrastinate.App(connector=empty_database_url)
    with app.open(), pytest.raises(exceptions.SchemaConflict, match=r"There are procrastinate_job_status here.*drop"):
        app.schema_manager.apply_schema()


def test_the_tables_of_3_x_are_recognised(empty_database_url: str) -> None:
    """Recognised by their columns. Ours can be created in another schema of the same database."""
    _execute(empty_database_url, "CREATE TABLE procrastinate_jobs (id bigint, queue_name text)")
    app = procrastinate.App(connector=empty_database_url)
    with app.open(), pytest.raises(exceptions.SchemaConflict, match=r"older than its release 3\.10"):
        app.schema_manager.apply_schema()
    _execute(empty_database_url, "CREATE SCHEMA jobs")
    url = sa.make_url(empty_database_url).update_query_dict({"options": "-csearch_path=jobs,public"})
    second = procrastinate.App(connector=url)
    with second.open():
        second.schema_manager.apply_schema()
        assert second.configure_task("task").defer() == 1


async def test_a_worker_that_may_not_read_the_revision_starts(database_url: str) -> None:
    """The worker's role may have rights on the queue's tables only."""
    role = f"worker_{sa.make_url(database_url).database}"
    _execute(
        database_url,
        f"CREATE ROLE {role}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; "
        f"REVOKE ALL ON procrastinate_alembic_version FROM {role}",
    )
    url = sa.make_url(database_url).update_query_dict({"options": f"-crole={role}"})
    app = procrastinate.App(connector=url)
    try:
        async with app.open_async():
            await app.run_worker_async(wait=False, install_signal_handlers=False)
    finally:
        _execute(database_url, f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_another_postgresql_schema_than_public(empty_database_url: str, engine: sa.Engine) -> None:
    """The search path of the connection selects the schema, also for the worker."""
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


def test_another_postgresql_schema_as_the_documentation_says(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test runs the page's SQL and program on psycopg and asyncpg, including the worker's connections."""
    text = (pathlib.Path(__file__).parents[2] / "docs" / "standalone.md").read_text()
    (sql,) = re.findall(r"```sql\n(CREATE SCHEMA.*?)```", text, re.DOTALL)
    (program,) = re.findall(r"```python\n# search_path\.py\n(.*?)```", text, re.DOTALL)
    _execute(empty_database_url, sql)
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    names: dict[str, Any] = {}
    exec(program, names)
    asyncio.run(_apply_and_work(names["on_asyncpg"], names["engine"]))
    with names["on_psycopg"].open() as app:
        app.schema_manager.check_schema()
        assert [job.status for job in app.job_manager.list_jobs()] == ["succeeded"]
    with psycopg.connect(libpq_url(empty_database_url)) as connection:
        schemas = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'procrastinate%'"
        assert connection.execute(schemas).fetchall() == [("jobs",)]


async def _apply_and_work(app: procrastinate.App, engine: AsyncEngine) -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await app.tasks["builtin:procrastinate.builtin_tasks.remove_old_jobs"].defer_async(max_hours=1)
        await app.run_worker_async(wait=False, install_signal_handlers=False)
    await engine.dispose()
