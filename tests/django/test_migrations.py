"""Django's migrations are the Alembic revisions in other clothes."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import psycopg
import pytest
import sqlalchemy as sa
from django.core.management import call_command
from django.db import connection, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from procrastinate.adapters.django import emit_migrations
from procrastinate.alembic import revisions
from tests.database import libpq_url
from tests.django.shop.tasks import ship
from tests.django.support import run_ok, using_database
from tests.schema.snapshot import take_snapshot

FIRST_TABLES = {"jobs", "events", "periodic_defers", "workers", "alembic_version"}
TABLES = FIRST_TABLES | {
    "results",
    "errors",
    "workflows",
    "dependencies",
    "arrivals",
    "limits",
    "openings",
    "starts",
    "windows",
    "turns",
    "hold_offs",
}
TABLES |= {"task_lists", "statistics", "paused_queues", "operations", "uniques", "job_reports"}


def _tables(url: str, schema: str = "public") -> set[str]:
    with psycopg.connect(libpq_url(url)) as connection:
        rows = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename LIKE 'procrastinate%%'", [schema]
        )
        return {name.removeprefix("procrastinate_") for (name,) in rows}


def test_they_are_what_the_emitter_writes() -> None:
    """After a change: python -m procrastinate.adapters.django.emit_migrations."""
    done = subprocess.run(
        [sys.executable, "-m", "procrastinate.adapters.django.emit_migrations", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_changed_file_is_noticed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check compares, and writing mends."""
    monkeypatch.setattr(emit_migrations, "DIRECTORY", tmp_path)
    monkeypatch.setattr(sys, "argv", ["emit_migrations", "--check"])
    assert emit_migrations.main() == 1
    monkeypatch.setattr(sys, "argv", ["emit_migrations"])
    assert emit_migrations.main() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{one.name}.py" for one in emit_migrations.emit()]


def test_what_has_changed_in_the_models_is_emitted() -> None:
    """Field by field, which Django's autodetector does not do for unmanaged models."""
    state = ProjectState()
    for operation in emit_migrations._model_operations(ProjectState()):
        operation.state_forwards("procrastinate", state)
    assert list(emit_migrations._model_operations(state)) == []
    state.remove_field("procrastinate", "procrastinatejob", "rescues")
    state.add_field("procrastinate", "procrastinateworker", "name", models.TextField(), preserve_default=True)
    state.alter_field("procrastinate", "procrastinateevent", "at", models.DateField(), preserve_default=True)
    assert {operation.describe() for operation in emit_migrations._model_operations(state)} == {
        "Add field rescues to procrastinatejob",
        "Remove field name from procrastinateworker",
        "Alter field at on procrastinateevent",
    }


@pytest.mark.usefixtures("project")
def test_the_models_have_not_changed_since() -> None:
    """makemigrations finds nothing to do."""
    call_command("makemigrations", "procrastinate", check=True, dry_run=True, verbosity=0)


def test_no_name_is_one_of_procrastinate_3() -> None:
    """Databases that it has migrated remember 0001 to 0041."""
    names = {name for label, name in MigrationLoader(None).disk_migrations if label == "procrastinate"}
    assert names
    assert all(re.fullmatch(r"1\d{3}_\w+", name) for name in names)


def test_forward_and_back_and_forward(empty_database_url: str) -> None:
    """Backward leaves nothing behind."""
    with using_database(empty_database_url):
        call_command("migrate", "procrastinate", verbosity=0)
        assert _tables(empty_database_url) == TABLES
        call_command("migrate", "procrastinate", "zero", verbosity=0)
        assert _tables(empty_database_url) == set()
        call_command("migrate", "procrastinate", verbosity=0)
        assert ship.defer(order_id=1) == 1


def test_the_alembic_revision_is_stamped(project_url: str) -> None:
    """The procrastinate command finds the schema of Django's migrations up to date."""
    engine = sa.create_engine(project_url, poolclass=sa.NullPool)
    with engine.connect() as alembic_connection:
        assert revisions.current_revision(alembic_connection) == revisions.head_revision()


def test_the_schema_is_that_of_the_alembic_revisions(project_url: str, engine: sa.Engine) -> None:
    """To the last default, function and trigger."""
    migrated = sa.create_engine(project_url, poolclass=sa.NullPool)
    with migrated.connect() as by_django, engine.connect() as by_alembic:
        assert take_snapshot(by_django) == take_snapshot(by_alembic)


def test_sqlmigrate_is_readable(project_url: str) -> None:
    """Statement by statement, the functions as they are."""
    sql = run_ok("sqlmigrate", "procrastinate", "1000", url=project_url)
    assert "CREATE TABLE procrastinate_jobs (\n    id BIGINT GENERATED BY DEFAULT AS IDENTITY,\n" in sql
    sql = run_ok("sqlmigrate", "procrastinate", "1001", url=project_url)
    assert sql.count("$function$;\n") == sql.count("CREATE FUNCTION") > 0
    assert "%%" not in sql
    backward = run_ok("sqlmigrate", "--backwards", "procrastinate", "1000", url=project_url)
    assert backward.count("DROP TABLE") == len(FIRST_TABLES)


def test_another_schema_than_public(empty_database_url: str) -> None:
    """By the connection's search_path; the triggers stay in it."""
    with psycopg.connect(libpq_url(empty_database_url), autocommit=True) as psycopg_connection:
        psycopg_connection.execute("CREATE SCHEMA queue")
    with using_database(empty_database_url, OPTIONS={"options": "-c search_path=queue"}):
        call_command("migrate", "procrastinate", verbosity=0)
        ship.defer(order_id=1)
        with connection.cursor() as cursor:
            cursor.execute("SET search_path = public")
            cursor.execute("UPDATE queue.procrastinate_jobs SET status = 'cancelled'")
            cursor.execute("SELECT count(*) FROM queue.procrastinate_events")
            assert cursor.fetchone() == (2,)
    assert _tables(empty_database_url, "queue") == TABLES
    assert _tables(empty_database_url) == set()


@pytest.mark.timeout(300)
def test_a_project_whose_own_database_is_not_postgresql(empty_database_url: str, tmp_path: pathlib.Path) -> None:
    """Both databases migrate, and only one gets the tables; the models are read from there."""
    options = {
        "url": empty_database_url,
        "settings": "tests.django.project.settings_two_databases",
        "TEST_SQLITE_FILE": str(tmp_path / "db.sqlite3"),
    }
    for arguments in (["migrate"], ["migrate", "procrastinate", "zero"], ["migrate"]):
        run_ok(*arguments, **options)
        run_ok(*arguments, "--database=queue", **options)
    assert _tables(empty_database_url) == TABLES
    printed = run_ok(
        "shell",
        "--verbosity=0",
        "-c",
        "from tests.django.shop.tasks import ship; from procrastinate.contrib.django.models import *;"
        "print(ship.defer(order_id=1), ProcrastinateJob.objects.get().procrastinateevent_set.get())",
        **options,
    )
    assert printed.startswith("1 deferred at ")
