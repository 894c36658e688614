"""The tables in the databases that Django makes, fills from fixtures, and refuses to migrate."""

from __future__ import annotations

import io
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test.utils import override_settings

from procrastinate import Limit, Unique, core
from procrastinate.adapters.django.fields import LAST_TIME
from procrastinate.alembic import upgrades
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.core import FinishedJob, JobRetry, NewError, Status, WorkerTerms
from procrastinate.exceptions import AlreadyEnqueued
from tests.conformance.runs import SyncRun
from tests.conformance.steps import defer, fetch_one, worker
from tests.database import Databases, libpq_url, new_job
from tests.django.shop.tasks import ship
from tests.django.support import manage, run_ok, using_database
from tests.schema.dumps import contents as exact_contents
from tests.schema.snapshot import take_snapshot
from tests.schema.tables_of_3x import make_tables_of_3x

WITHOUT_MIGRATIONS = "tests.django.project.settings_without_migrations"
OF_3X = r"The tables are of Procrastinate 3\.x, and are not upgraded yet"
OLDER = r"The tables are of Procrastinate, and older than its release 3\.10"


def snapshot(url: str) -> Any:
    """The schema of a database."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return take_snapshot(connection)


def has_tables(url: str) -> bool:
    """Whether the schema has been applied."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return core.jobs_table_exists(connection)


def contents(url: str) -> dict[str, list[str]]:
    """Every row of the queue, with times in milliseconds, as fixtures have them."""

    def in_milliseconds(time: re.Match[str]) -> str:
        return f"{time[1]}{(time[2] or '.')[:4]:0<4}+"

    return {
        table: [re.sub(r"(:\d\d)(\.\d+)?\+", in_milliseconds, row) for row in rows]
        for table, rows in exact_contents(url).items()
    }


# Without migrations (in processes of their own: pytest-django has set up a test environment in this one)


def test_run_syncdb_makes_the_schema_of_the_migrations(empty_database_url: str, database_url: str) -> None:
    """It can be repeated, and `schema --apply` finds nothing to do."""
    for _ in range(2):
        run_ok("migrate", "--run-syncdb", url=empty_database_url, settings=WITHOUT_MIGRATIONS)
    with using_database(empty_database_url):
        app.schema_manager.apply_schema()
        assert ship.defer(order_id=1) == 1
    assert snapshot(empty_database_url) == snapshot(database_url)


def test_migrate_alone_leaves_the_schema_to_a_project_that_switched_the_migrations_off(empty_database_url: str) -> None:
    """It may have the schema applied by Alembic, later."""
    run_ok("migrate", url=empty_database_url, settings=WITHOUT_MIGRATIONS)
    assert not has_tables(empty_database_url)


class NowhereRouter:
    """Lets the queue's tables be in no database."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """None of its own."""
        return False if app_label == "procrastinate" else None


def test_a_router_keeps_the_tables_away(empty_database_url: str) -> None:
    with (
        using_database(empty_database_url),
        override_settings(MIGRATION_MODULES={"procrastinate": None}, DATABASE_ROUTERS=[NowhereRouter()]),
    ):
        call_command("migrate", run_syncdb=True, verbosity=0)
    assert not has_tables(empty_database_url)


def test_run_syncdb_refuses_tables_of_3x(empty_database_url: str) -> None:
    make_tables_of_3x(empty_database_url)
    with (
        using_database(empty_database_url),
        override_settings(MIGRATION_MODULES={"procrastinate": None}),
        pytest.raises(CommandError, match=OLDER),
    ):
        call_command("migrate", run_syncdb=True, verbosity=0, skip_checks=True)


def test_flush_outside_tests_leaves_the_jobs(project_url: str) -> None:
    """`manage.py flush` on a production database empties what it says, the tables of managed models."""
    run_ok("procrastinate", "defer", "shop.fail", url=project_url)
    run_ok("flush", "--noinput", url=project_url)
    with using_database(project_url):
        assert ProcrastinateJob.objects.count() == 1


# Tables of others


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("migrate",), OLDER),
        (("migrate", "procrastinate", "--skip-checks"), OLDER),
        (("check", "--database=default"), OLDER),
        (("procrastinate", "healthchecks"), OF_3X),
        (("procrastinate", "worker", "--one-shot"), OF_3X),
        (("procrastinate", "defer", "shop.fail"), OF_3X),
    ],
    ids=str,
)
def test_a_command_refuses_tables_of_3x_in_one_sentence(
    empty_database_url: str, command: tuple[str, ...], text: str
) -> None:
    """These lack what 3.10 has."""
    make_tables_of_3x(empty_database_url)
    done = manage(*command, url=empty_database_url)
    assert done.returncode != 0
    assert re.search(text, done.stderr)
    assert "Traceback" not in done.stderr


def test_tables_of_3x_that_migrate_was_told_to_pass_over_are_refused_all_the_same(empty_database_url: str) -> None:
    make_tables_of_3x(empty_database_url)
    with using_database(empty_database_url):
        call_command("migrate", "procrastinate", fake=True, verbosity=0, skip_checks=True)
    done = manage("procrastinate", "healthchecks", url=empty_database_url)
    assert done.returncode != 0
    assert "Procrastinate 3.x" in done.stderr


@pytest.mark.parametrize("revision", ["procrastinate_0002", "head"])
def test_migrate_goes_on_where_the_schema_was_applied(empty_database_url: str, revision: str) -> None:
    engine = sa.create_engine(empty_database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        upgrades.upgrade(connection, revision)
    with using_database(empty_database_url):
        call_command("migrate", "procrastinate", verbosity=0)
        assert ship.defer(order_id=1) == 1


# Fixtures


@pytest.fixture
def filled_url(project_url: str) -> Iterator[str]:
    """A project's database with a row in each table of the queue, and a worker that runs a job."""
    engine = sa.create_engine(project_url, poolclass=sa.NullPool)
    run = SyncRun(engine)
    error = NewError(exception_class="ValueError", message="first", traceback="...")
    worker_id = worker(run)
    outcome = FinishedJob(id=defer(run, args='{"a": [1, "é"]}'), attempts=0, status=Status.SUCCEEDED, result="null")
    fetch_one(run, worker_id)
    run(core.finish_jobs, [outcome], worker_id=worker_id)
    retried = defer(run)
    fetch_one(run, worker_id)
    run(core.retry_jobs, [JobRetry(id=retried, attempts=0, retry_in=3600.0, error=error)], worker_id=worker_id)
    run(core.defer_tick, new_job(), periodic_id="", defer_timestamp=1)
    fetch_one(run, worker_id)
    defer(run, queueing_lock="q", lock="l")
    with using_database(project_url):
        yield project_url


def dump(path: pathlib.Path, *labels: str, **options: Any) -> pathlib.Path:
    """Write a fixture."""
    call_command("dumpdata", *labels or ["procrastinate"], output=str(path), verbosity=0, **options)
    return path


def test_loaddata_brings_the_rows_as_they_were_into_another_database(
    filled_url: str, databases: Databases, tmp_path: pathlib.Path
) -> None:
    fixture, before = dump(tmp_path / "queue.json"), contents(filled_url)
    other = databases.create_migrated()
    with using_database(other):
        call_command("migrate", "procrastinate", fake=True, verbosity=0)
        call_command("loaddata", str(fixture), verbosity=0)
        assert contents(other) == before
        assert ship.defer(order_id=1) == 5
    databases.drop(other)


def test_loaddata_into_the_same_database_sets_rows_back_and_adds_no_history(
    filled_url: str, tmp_path: pathlib.Path
) -> None:
    fixture, before = dump(tmp_path / "queue.json"), contents(filled_url)
    with psycopg.connect(libpq_url(filled_url)) as connection:
        connection.execute("ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")
        connection.execute("UPDATE procrastinate_jobs SET status = 'cancelled' WHERE status = 'todo'")
        connection.execute("DELETE FROM procrastinate_jobs WHERE id = 1")
        connection.execute("ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER")
    call_command("loaddata", str(fixture), verbosity=0)
    assert contents(filled_url) == before


def test_sequences_are_reset_while_a_worker_has_its_random_number(filled_url: str, tmp_path: pathlib.Path) -> None:
    """The number is negative. ``loaddata`` resets the sequences, too."""
    with psycopg.connect(libpq_url(filled_url)) as connection:
        connection.execute("DELETE FROM procrastinate_workers")
    assert app.connector.run(core.register_worker, WorkerTerms()) < 0
    fixture = dump(tmp_path / "queue.json")
    printed = io.StringIO()
    call_command("sqlsequencereset", "procrastinate", stdout=printed, no_color=True)
    with psycopg.connect(libpq_url(filled_url)) as connection:
        connection.execute("SELECT setval('procrastinate_jobs_id_seq', 1, false)")
        connection.execute(printed.getvalue())
    assert ship.defer(order_id=1) == 5
    call_command("loaddata", str(fixture), verbosity=0)
    assert ship.defer(order_id=1) == 6


@pytest.mark.parametrize("reverse", [False, True])
def test_loaddata_adds_no_history_whichever_rows_come_first(
    filled_url: str, tmp_path: pathlib.Path, reverse: bool
) -> None:
    """Numbers have been drawn in this database, and the rows are gone."""
    fixture, before = dump(tmp_path / "queue.json"), contents(filled_url)
    rows = json.loads(fixture.read_text())
    fixture.write_text(json.dumps(rows[::-1] if reverse else rows))
    with psycopg.connect(libpq_url(filled_url)) as connection:
        connection.execute("TRUNCATE procrastinate_jobs, procrastinate_workers")
    call_command("loaddata", str(fixture), verbosity=0)
    assert contents(filled_url) == before


@pytest.mark.parametrize("fixture_format", ["json", "jsonl", "xml"])
def test_a_fixture_keeps_large_floats(project_url: str, tmp_path: pathlib.Path, fixture_format: str) -> None:
    fixture = tmp_path / f"queue.{fixture_format}"
    with using_database(project_url):
        app.configure_task("floats").defer(large=1e16, whole=10**16)
        dump(fixture, format=fixture_format)
        with psycopg.connect(libpq_url(project_url)) as connection:
            connection.execute("TRUNCATE procrastinate_jobs")
        call_command("loaddata", str(fixture), verbosity=0)
        arguments = ProcrastinateJob.objects.get().args
    assert isinstance(arguments["large"], float)
    assert isinstance(arguments["whole"], int)


@pytest.mark.parametrize("time", ["infinity", "9999-12-31 23:59:59.999999+00", "20000-01-01"])
def test_a_fixture_keeps_a_job_from_its_start_that_is_due_later_than_python_can_say(
    project_url: str, tmp_path: pathlib.Path, time: str
) -> None:
    with using_database(project_url):
        app.configure_task("late").defer()
        with psycopg.connect(libpq_url(project_url)) as connection:
            connection.execute("UPDATE procrastinate_jobs SET scheduled_at = %s::timestamptz", [time])
        fixture = dump(tmp_path / "queue.json")
        with psycopg.connect(libpq_url(project_url)) as connection:
            connection.execute("TRUNCATE procrastinate_jobs")
        call_command("loaddata", str(fixture), verbosity=0)
        with psycopg.connect(libpq_url(project_url)) as connection:
            assert connection.execute("SELECT scheduled_at > '9999-12-01' FROM procrastinate_jobs").fetchall() == [
                (True,)
            ]


def test_loaddata_brings_what_decides_when_jobs_run(
    project_url: str, databases: Databases, tmp_path: pathlib.Path
) -> None:
    one = app.task(lambda: 1, name="restored.one", store_result=True)
    step = app.task(lambda value: None, name="restored.step")
    unique = app.task(lambda: None, name="restored.unique", unique=Unique(until="end"))
    limited = app.task(lambda: None, name="restored.limited", limit=Limit("restored", concurrency=5))
    with using_database(project_url):
        workflow = app.workflow("restored")
        workflow.add(step, value=workflow.add(one).value)
        workflow_id = workflow.defer()
        unique.defer()
        app.limits.set("restored", concurrency=1, allow_undefined=True)
        limited.batch_defer({}, {})
        app.queues.pause("mail")
        one.configure(queue="mail").defer()
        fixture = dump(tmp_path / "queue.json")
    other = databases.create_migrated()
    try:
        with using_database(other):
            call_command("migrate", "procrastinate", fake=True, verbosity=0)
            call_command("loaddata", str(fixture), verbosity=0)
            with pytest.raises(AlreadyEnqueued):
                unique.defer()
            waiting = ProcrastinateJob.objects.get(step="step")
            assert waiting.scheduled_at == LAST_TIME, "a step without a time starts before the one it waits for"
            assert app.limits.list()[0].concurrency == 1
            app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False)
            assert app.workflows.get(workflow_id).state == "succeeded"
            assert list(ProcrastinateJob.objects.exclude(status="succeeded").values_list("queue_name")) == [("mail",)]
    finally:
        databases.drop(other)
        for task in one, step, unique, limited:
            del app.tasks[task.name]


def test_a_dump_can_leave_tables_out(filled_url: str, tmp_path: pathlib.Path) -> None:
    fixture = dump(tmp_path / "queue.json", exclude=["procrastinate.ProcrastinateWorker"])
    with psycopg.connect(libpq_url(filled_url)) as connection:
        connection.execute("TRUNCATE procrastinate_jobs, procrastinate_workers")
    call_command("loaddata", str(fixture), verbosity=0)
    assert contents(filled_url)["workers"] == []
    assert ProcrastinateJob.objects.count() == 4


def test_a_job_that_is_deferred_after_a_fixture_in_one_transaction_has_its_history(
    filled_url: str, tmp_path: pathlib.Path
) -> None:
    """As in a TestCase with fixtures."""
    fixture = dump(tmp_path / "queue.json")
    with transaction.atomic():
        call_command("loaddata", str(fixture), verbosity=0)
        job_id = ship.defer(order_id=1)
        job = ProcrastinateJob.objects.get(pk=job_id)
        assert list(job.procrastinateevent_set.values_list("type", flat=True)) == ["deferred"]
