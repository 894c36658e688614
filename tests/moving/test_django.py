"""A Django project moves from 3.10 by another requirement and ``migrate``, with migrations that depend on 3.x's."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from procrastinate.adapters.django.migrations_of_3x import MIGRATIONS_OF_3X
from procrastinate.alembic.settings import MIGRATION_LOCK_KEY
from procrastinate.alembic.upgrades import upgrade_sql
from tests.database import Databases, libpq_url
from tests.moving.release import PROGRAMS, environment_of, run_3x
from tests.moving.rows import execute, rows
from tests.moving.test_adoption import apply_schema, snapshot_of, without_rests

pytestmark = pytest.mark.timeout(300)
"""Each test runs many commands."""


def manage(url: str, *arguments: str, fails: bool = False) -> str:
    """Run ``manage.py`` of the shop on this release, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        env=environment_of(url),
        cwd=PROGRAMS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def shop_template(databases: Databases) -> Iterator[str]:
    """The database of the shop, as 3.10 has migrated and filled it."""
    url = databases.create_empty()
    run_3x(url, "manage.py", "migrate")
    run_3x(url, "manage.py", "shell", "-c", "import orders.fill")
    yield url
    databases.drop(url)


@pytest.fixture
def shop_url(databases: Databases, shop_template: str) -> Iterator[str]:
    """A database of this test, of the shop on 3.10."""
    url = databases.clone(shop_template)
    yield url
    databases.drop(url)


def orders(url: str) -> list[tuple[object, ...]]:
    """The names of the orders, and the status of the job of each."""
    statement = (
        "SELECT o.name, j.status::text FROM orders_order AS o LEFT JOIN procrastinate_jobs AS j ON j.id = o.job_id "
        "ORDER BY o.id"
    )
    return execute(url, statement)


def test_only_a_migrate_that_upgrades_the_tables_does_not_warn_of_them(shop_url: str) -> None:
    for command in (("check", "--database", "default"), ("migrate", "--plan")):
        assert "(procrastinate.W001) The tables are of Procrastinate 3.x" in manage(shop_url, *command)
    assert "(procrastinate.W001)" in manage(shop_url, "migrate", "another_app", fails=True)
    assert "W001" not in manage(shop_url, "migrate")


def test_migrate_upgrades_the_database_and_a_worker_goes_on(shop_url: str, database_url: str) -> None:
    before = rows(shop_url)
    assert "(41 squashed migrations)" in manage(shop_url, "showmigrations", "procrastinate")
    assert "procrastinate.1001" in manage(shop_url, "migrate", "--plan")
    manage(shop_url, "migrate")
    assert rows(shop_url) == before
    assert without_rests(snapshot_of(shop_url)) == without_rests(snapshot_of(database_url))
    assert "[ ]" not in manage(shop_url, "showmigrations")
    manage(shop_url, "makemigrations", "--check")
    assert "Worker App: OK" in manage(shop_url, "procrastinate", "healthchecks")
    manage(shop_url, "procrastinate", "worker", "--one-shot")
    assert orders(shop_url) == [("paid", "succeeded")] * 6


def test_3_10_finds_its_migrations_applied_and_runs_on_the_new_schema(shop_url: str) -> None:
    """The way back is to install it again."""
    manage(shop_url, "migrate")
    run_3x(shop_url, "manage.py", "migrate", "--check")
    run_3x(shop_url, "manage.py", "procrastinate", "healthchecks")
    run_3x(shop_url, "manage.py", "procrastinate", "worker", "--one-shot")
    assert orders(shop_url) == [("paid", "succeeded")] * 6


def test_prune_leaves_the_names_of_3x(shop_url: str) -> None:
    manage(shop_url, "migrate")
    assert "Cannot use --prune" in manage(shop_url, "migrate", "--prune", "procrastinate")
    names = execute(
        shop_url, "SELECT name FROM django_migrations WHERE app = 'procrastinate' AND name < '1' ORDER BY 1"
    )
    assert [name for (name,) in names] == list(MIGRATIONS_OF_3X)


def test_migrate_back_gives_the_tables_of_3x_and_forth_again_ours(shop_url: str, database_url: str) -> None:
    manage(shop_url, "migrate")
    manage(shop_url, "migrate", "procrastinate", "1007")
    assert execute(shop_url, "TABLE procrastinate_alembic_version") == [("procrastinate_0007",)]
    manage(shop_url, "migrate", "procrastinate", "1000")
    assert execute(shop_url, "SELECT to_regclass('procrastinate_alembic_version')::text") == [(None,)]
    run_3x(shop_url, "manage.py", "migrate")
    run_3x(shop_url, "manage.py", "procrastinate", "worker", "--one-shot")
    assert orders(shop_url) == [("paid", "succeeded")] * 6
    manage(shop_url, "migrate")
    assert without_rests(snapshot_of(shop_url)) == without_rests(snapshot_of(database_url))


def test_nothing_is_migrated_back_while_workers_of_this_release_are_at_work(shop_url: str) -> None:
    """The first migrations back drop tables that a worker uses."""
    manage(shop_url, "migrate")
    execute(shop_url, "INSERT INTO procrastinate_workers (id, stalled_timeout) VALUES (-5, 3600)")
    before = execute(shop_url, "TABLE procrastinate_alembic_version")
    for target in ("1000", "1006", "zero"):
        assert "workers of this release are at work" in manage(shop_url, "migrate", "procrastinate", target, fails=True)
        assert execute(shop_url, "TABLE procrastinate_alembic_version") == before
        assert "[ ]" not in manage(shop_url, "showmigrations", "procrastinate")
    execute(shop_url, "DELETE FROM procrastinate_workers WHERE id = -5")
    manage(shop_url, "migrate", "procrastinate", "1000")


def test_tables_that_have_nothing_of_3x_are_not_migrated_back_to_it(shop_url: str, empty_database_url: str) -> None:
    """They were made by this release, or the move has ended. 3.10 works on them, and would not on the rest."""
    manage(shop_url, "migrate")
    manage(shop_url, "procrastinate", "schema", "--contract")
    manage(empty_database_url, "migrate")
    for url in (shop_url, empty_database_url):
        before = snapshot_of(url)
        assert "no schema of 3.x to go back to" in manage(url, "migrate", "procrastinate", "1000", fails=True)
        assert snapshot_of(url) == before
    run_3x(shop_url, "manage.py", "procrastinate", "worker", "--one-shot")
    assert orders(shop_url) == [("paid", "succeeded")] * 6


def test_a_fresh_database_is_migrated_with_the_users_migrations_in_between(
    empty_database_url: str, database_url: str
) -> None:
    manage(empty_database_url, "migrate")
    fresh, expected = snapshot_of(empty_database_url), snapshot_of(database_url)
    assert fresh == expected
    manage(empty_database_url, "makemigrations", "--check")
    manage(empty_database_url, "shell", "-c", "import orders.fill")
    assert orders(empty_database_url) == [("paid", "succeeded")] * 3 + [("new", "todo")] * 3
    run_3x(empty_database_url, "manage.py", "migrate", "--check")
    run_3x(empty_database_url, "manage.py", "procrastinate", "worker", "--one-shot")
    assert orders(empty_database_url) == [("paid", "succeeded")] * 6


@pytest.mark.parametrize("first", ["schema", "migrate"])
def test_both_ways_of_applying_the_schema_find_that_the_other_was_there(shop_url: str, first: str) -> None:
    if first == "schema":
        apply_schema(shop_url)
        manage(shop_url, "migrate")
    else:
        manage(shop_url, "migrate")
        assert apply_schema(shop_url) == []
    assert "[ ]" not in manage(shop_url, "showmigrations")
    assert "Migrations: OK" in manage(shop_url, "procrastinate", "healthchecks")


@pytest.mark.parametrize("reached", ["procrastinate_0007", "procrastinate_0016"])
def test_a_migration_that_another_process_applies_first_is_not_run_again(
    shop_url: str, database_url: str, reached: str
) -> None:
    """The other one holds the lock of migrations, and applies all revisions while ``migrate`` waits for it."""
    manage(shop_url, "migrate", "procrastinate", f"1{reached[-3:]}")
    with (
        psycopg.connect(libpq_url(shop_url)) as faster,
        psycopg.connect(libpq_url(shop_url), autocommit=True) as observer,
        ThreadPoolExecutor(1) as thread,
    ):
        faster.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK_KEY})")
        slower = thread.submit(manage, shop_url, "migrate", "procrastinate")
        while not observer.execute("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchall():
            assert not slower.done(), slower.result()
            time.sleep(0.05)
        faster.execute(upgrade_sql(reached, transactional=False).encode())
        faster.commit()
        slower.result(timeout=60)
    assert without_rests(snapshot_of(shop_url)) == without_rests(snapshot_of(database_url))
    assert "[ ]" not in manage(shop_url, "showmigrations", "procrastinate")


def test_migrate_goes_on_after_the_schema_was_applied_to_an_empty_database(empty_database_url: str) -> None:
    apply_schema(empty_database_url)
    manage(empty_database_url, "migrate")
    assert "Migrations: OK" in manage(empty_database_url, "procrastinate", "healthchecks")


@pytest.mark.parametrize(
    ("newest", "missing"),
    [
        ("0028", "03.00.00_01_pre_cancel_notification.sql"),
        ("0039", "03.04.00_01_pre_add_retry_failed_job_procedure.sql"),
    ],
    ids=["2.x", "3.0 to 3.3"],
)
def test_a_database_before_3_10_is_refused_by_a_check_that_says_what_to_do(
    empty_database_url: str, newest: str, missing: str
) -> None:
    run_3x(empty_database_url, "manage.py", "migrate", "procrastinate", newest)
    before = snapshot_of(empty_database_url)
    for command in (["migrate"], ["check", "--database=default"]):
        said = manage(empty_database_url, *command, fails=True)
        assert "Install procrastinate 3.10, and apply its migrations, first" in said
        assert missing in said
        assert "Traceback" not in said
    assert snapshot_of(empty_database_url) == before


def test_a_project_that_leaves_out_the_checks_is_refused_all_the_same(empty_database_url: str) -> None:
    run_3x(empty_database_url, "manage.py", "migrate", "procrastinate", "0040")
    before = snapshot_of(empty_database_url)
    manage(empty_database_url, "migrate", "--skip-checks", fails=True)
    assert snapshot_of(empty_database_url) == before


def test_the_plan_is_printed_and_left_behind_jobs_are_decided_on(shop_url: str) -> None:
    execute(shop_url, "UPDATE procrastinate_jobs SET status = 'doing' WHERE id = (SELECT max(id) FROM orders_order)")
    assert "1 jobs run for workers that are gone" in manage(shop_url, "procrastinate", "schema", "--plan")
    manage(shop_url, "migrate")
    said = manage(shop_url, "procrastinate", "schema", "--apply", "--orphans=fail")
    assert "1 running jobs that 3.x had left behind failed" in said
    again = manage(shop_url, "procrastinate", "schema", "--apply", "--orphans=retry")
    assert "No running job was left behind by 3.x. A worker of 3.x counts as gone after an hour of silence" in again
    assert orders(shop_url)[-1] == ("new", "failed")
    assert "up to date" in manage(shop_url, "procrastinate", "schema", "--plan")
