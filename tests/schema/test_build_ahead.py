"""What a revision needs of a big table is there before its transaction, and readers and writers go on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate.alembic import build_ahead, upgrades
from tests.database import libpq_url
from tests.schema.snapshot import take_snapshot

BEFORE = "procrastinate_0009"
INDEX = "procrastinate_jobs_workflow_idx"
IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
INSERT = "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')"
HAS_INDEX = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass(%s)"


@pytest.fixture
def at_before(engine: sa.Engine) -> sa.Engine:
    """A database of the release before."""
    with engine.begin() as connection:
        upgrades.downgrade(connection, BEFORE)
    return engine


@pytest.fixture
def autocommit(at_before: sa.Engine) -> Iterator[sa.Connection]:
    """A connection that commits each statement."""
    with at_before.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


@pytest.fixture
def psql(database_url: str) -> Iterator[psycopg.Connection]:
    """Another session, which commits each statement."""
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        yield connection


def test_writers_go_on_while_the_index_is_built(
    at_before: sa.Engine, database_url: str, psql: psycopg.Connection
) -> None:
    """The build waits for an open transaction that has written, and holds up no other."""
    app = procrastinate.App(connector=database_url)
    reported: list[str] = []
    with psycopg.connect(libpq_url(database_url)) as other, ThreadPoolExecutor(1) as threads, app.open():
        psql.execute("ALTER TABLE procrastinate_jobs ADD COLUMN workflow_id bigint, ADD COLUMN step text")
        psql.execute(INSERT)
        other.execute(INSERT)
        applied = threads.submit(app.schema_manager.apply_schema, report=reported.append)
        while psql.execute(HAS_INDEX, [INDEX]).fetchone() == (0,):
            assert not applied.done()
        psql.execute("SET lock_timeout = '1s'")
        psql.execute(INSERT)
        assert not applied.done()
        other.rollback()
        applied.result(timeout=60)
    assert psql.execute(IS_VALID, [INDEX]).fetchone() == (True,)
    assert any(INDEX in line and "reads and writes go on" in line for line in reported)


def test_nothing_is_told_of_tables_without_jobs(at_before: sa.Engine, database_url: str) -> None:
    """A new database has no readers and writers that could wait."""
    reported: list[str] = []
    with procrastinate.App(connector=database_url).open() as app:
        app.schema_manager.apply_schema(report=reported.append)
    assert reported == []


def test_the_revision_finds_the_columns_and_the_index(autocommit: sa.Connection, psql: psycopg.Connection) -> None:
    build_ahead.build_ahead(autocommit)
    number = psql.execute("SELECT to_regclass(%s)::oid", [INDEX]).fetchone()
    build_ahead.build_ahead(autocommit)
    with autocommit.engine.begin() as connection:
        upgrades.upgrade(connection)
    assert psql.execute("SELECT to_regclass(%s)::oid", [INDEX]).fetchone() == number
    assert number is not None
    assert number[0] is not None


@pytest.mark.parametrize("way", ["ahead", "transaction"])
def test_an_index_of_a_build_that_was_killed_is_built_again(
    autocommit: sa.Connection, psql: psycopg.Connection, way: str
) -> None:
    psql.execute("ALTER TABLE procrastinate_jobs ADD COLUMN workflow_id bigint")
    psql.execute(f"CREATE INDEX {INDEX} ON procrastinate_jobs (workflow_id)")
    psql.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(%s)", [INDEX])
    if way == "ahead":
        build_ahead.build_ahead(autocommit)
    else:
        with autocommit.engine.begin() as connection:
            upgrades.upgrade(connection)
    assert psql.execute(IS_VALID, [INDEX]).fetchone() == (True,)


def test_a_transaction_builds_nothing_ahead_and_the_revision_makes_all(at_before: sa.Engine, engine: sa.Engine) -> None:
    with at_before.begin() as connection:
        before = take_snapshot(connection)
        build_ahead.build_ahead(connection)
        assert take_snapshot(connection) == before
        procrastinate.schema.adopt(connection)
        assert connection.exec_driver_sql(HAS_INDEX, (INDEX,)).scalar_one() == 1


def test_a_migration_can_be_taken_back_after_a_build_ahead(autocommit: sa.Connection) -> None:
    build_ahead.build_ahead(autocommit)
    with autocommit.engine.begin() as connection:
        upgrades.upgrade(connection)
        upgrades.downgrade(connection, BEFORE)
        left = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'procrastinate_jobs'::regclass AND attname = 'step'"
        assert connection.exec_driver_sql(left).scalar_one() == 0


def test_the_plan_names_what_is_built_ahead(at_before: sa.Engine, database_url: str) -> None:
    app = procrastinate.App(connector=database_url)
    with app.open():
        assert INDEX in app.schema_manager.plan()
