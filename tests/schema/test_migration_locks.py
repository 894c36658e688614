"""A migration waits for open transactions, and does not block writers while it waits."""

from __future__ import annotations

import importlib
import itertools
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from procrastinate import App
from procrastinate.alembic import revisions, upgrades
from procrastinate.alembic.locks import QUEUE_TABLES, lock_tables
from tests.database import libpq_url

INSERT = "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')"
BEAT = "UPDATE procrastinate_workers SET last_heartbeat = now()"
WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'procrastinate_jobs'::regclass"
BEFORE = "procrastinate_0003"


def longest_write_during(writer: psycopg.Connection[Any], migrates: Callable[[], bool]) -> float:
    """Write until the migration has waited for the jobs at several moments, and return the longest time of a write."""
    longest, seen, end = 0.0, 0, time.monotonic() + 60
    while seen < 5:
        assert migrates()
        assert time.monotonic() < end, "The migration never waits for the jobs"
        waits = writer.execute(WAITS).fetchone()
        seen += waits is not None and waits[0] > 0
        for statement in (INSERT, BEAT):
            start = time.monotonic()
            writer.execute(statement)
            longest = max(longest, time.monotonic() - start)
    return longest


@pytest.mark.parametrize(("way", "before"), [("up", BEFORE), ("up", "procrastinate_0008"), ("down", BEFORE)])
def test_a_writer_does_not_wait_for_a_migration_that_waits_for_another(
    engine: sa.Engine, database_url: str, way: str, before: str
) -> None:
    """The other transaction has written a job and is idle."""

    def migrate(revision: str, step: Callable[..., None]) -> None:
        with engine.begin() as connection:
            step(connection, revision)

    url = libpq_url(database_url)
    if way == "up":
        migrate(before, upgrades.downgrade)
    with psycopg.connect(url) as other, psycopg.connect(url, autocommit=True) as writer, ThreadPoolExecutor(1) as pool:
        other.execute(INSERT)
        arguments = ("head", upgrades.upgrade) if way == "up" else (before, upgrades.downgrade)
        migration = pool.submit(migrate, *arguments)
        try:
            longest = longest_write_during(writer, lambda: not migration.done())
        finally:
            other.rollback()
        migration.result(timeout=60)
    assert longest < 1
    with engine.connect() as connection:
        assert revisions.current_revision(connection) == (revisions.head_revision() if way == "up" else before)


def test_a_migration_that_gives_up_names_the_sessions_that_are_in_the_way(
    engine: sa.Engine, connection: sa.Connection, database_url: str
) -> None:
    with psycopg.connect(libpq_url(database_url)) as other:
        other.execute(INSERT)
        statement = lock_tables(attempts=2)
        with pytest.raises(sa.exc.OperationalError, match="tables of the queue are in use") as raised:
            connection.exec_driver_sql(statement)
        error = raised.value.orig
        assert isinstance(error, psycopg.errors.LockNotAvailable)
        assert str(other.info.backend_pid) in str(error.diag.message_detail)
        assert "repeat the migration" in str(error.diag.message_hint)


def test_a_transaction_keeps_its_own_lock_timeout_after_the_locks_are_taken(connection: sa.Connection) -> None:
    connection.exec_driver_sql("SET lock_timeout = '7s'")
    connection.exec_driver_sql(lock_tables())
    assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "7s"


def test_an_older_schema_is_brought_along_by_one_revision_in_a_transaction(engine: sa.Engine) -> None:
    """Writers wait for the locks of one revision at a time."""
    with engine.begin() as connection:
        upgrades.downgrade(connection, "procrastinate_0007")
    steps: list[str | None] = []

    def note(connection: sa.Connection) -> None:
        revision = revisions.current_revision(connection)
        steps.extend([revision] if revision not in steps[-1:] else [])

    sa.event.listen(engine, "commit", note)
    app = App(connector=engine)
    with app.open():
        app.schema_manager.apply_schema()
    known = revisions.known_revisions()
    assert steps == list(known[known.index("procrastinate_0007") + 1 :])


STEPS = itertools.pairwise(revisions.known_revisions())
LATER = [(former, revision) for former, revision in STEPS if revision > BEFORE]
LOCK = re.compile(r"LOCK TABLE (\w+) IN ([A-Z ]+) MODE")
NEEDS_A_LOCK = re.compile(r"\b(ALTER TABLE|CREATE TRIGGER|DROP TRIGGER|DROP INDEX|LOCK TABLE)\b")


@pytest.mark.parametrize(("former", "revision"), LATER)
def test_a_revision_takes_its_locks_before_its_first_change(former: str, revision: str) -> None:
    """This holds for upgrades and downgrades, in Alembic's script and in Django's migration."""
    number = int(revision.rpartition("_")[2])
    name = next(path.stem for path in _django_migrations().iterdir() if path.stem.startswith(f"{1000 + number}_"))
    migration = importlib.import_module(f"procrastinate.adapters.django.migrations.{name}")
    scripts = [
        upgrades.upgrade_sql(former, revision, transactional=False),
        upgrades.downgrade_sql(revision, former, transactional=False),
        "\n".join(migration.FORWARD),
        "\n".join(migration.BACKWARD),
    ]
    for script in scripts:
        changes = _without_tables_it_creates(script)
        if NEEDS_A_LOCK.search(changes):
            first = NEEDS_A_LOCK.search(changes)
            assert first is not None
            assert first[0] == "LOCK TABLE"
            assert script.count("lock_timeout") >= 3


def _without_tables_it_creates(script: str) -> str:
    """Return the script without its changes of tables that no other session sees yet."""
    for table in re.findall(r"CREATE TABLE (procrastinate_\w+)", script):
        script = re.sub(rf"ALTER TABLE {table}\b|CREATE TRIGGER \w+\s[^;]*?\bON {table}\b", "", script)
    return script


@pytest.mark.parametrize(("former", "revision"), LATER)
def test_a_revision_makes_no_file_while_it_holds_the_locks_of_the_writers(former: str, revision: str) -> None:
    """The server syncs the file of each new index to the disk. On a busy disk this took half a second.

    Indexes on the jobs are the exception: they are built before, and the revision finds them.
    """
    script = upgrades.upgrade_sql(former, revision, transactional=False)
    _, locks, held = script.partition("LOCK TABLE")
    makes_files = r"CREATE TABLE|CREATE (?:UNIQUE )?INDEX(?! IF NOT EXISTS)"
    assert not re.search(makes_files, held), f"Create it before the locks are taken: {re.search(makes_files, held)}"
    assert locks or not NEEDS_A_LOCK.search(_without_tables_it_creates(script))


@pytest.mark.parametrize("revision", [revision for _, revision in LATER])
def test_a_revision_that_locks_takes_all_locks_that_later_ones_need(revision: str) -> None:
    """One transaction may run them all. A lock that comes later is waited for while writers wait for the first."""
    script = upgrades.upgrade_sql(BEFORE, revision, transactional=False)
    locked = re.findall(r"LOCK TABLE (\w+) IN ACCESS EXCLUSIVE MODE", script)
    assert locked == list(QUEUE_TABLES) * (len(locked) // len(QUEUE_TABLES))
    # Tables that the revisions create are seen by no other session.
    altered = set(re.findall(r"(?:ALTER TABLE|LOCK TABLE|TRIGGER \w+\s+.* ON) (procrastinate_\w+)", script))
    created = set(re.findall(r"CREATE TABLE (procrastinate_\w+)", script))
    assert altered - created <= set(QUEUE_TABLES)


def _django_migrations() -> Any:
    import pathlib

    import procrastinate.adapters.django.migrations as package

    return pathlib.Path(str(package.__file__)).parent


@pytest.mark.parametrize(
    "script",
    [
        upgrades.upgrade_sql("procrastinate_0007"),
        upgrades.downgrade_sql(revisions.head_revision(), "procrastinate_0007"),
    ],
    ids=["up", "down"],
)
def test_a_transaction_that_runs_several_revisions_takes_the_locks_of_all_with_the_first(script: str) -> None:
    """It would wait for the jobs without an end, while a worker that holds them waits for its lock on the workers."""
    blocks = [set(LOCK.findall(block)) for block in script.split("DO $do$") if LOCK.search(block)]
    assert len(blocks) > 1
    assert all({table for table, _ in block} <= {table for table, _ in blocks[0]} for block in blocks)
    exclusive = {table for block in blocks for table, mode in block if mode == "ACCESS EXCLUSIVE"}
    assert exclusive <= {table for table, mode in blocks[0] if mode == "ACCESS EXCLUSIVE"}
