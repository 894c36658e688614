"""The migrations: up and down, by several at once, in another schema, and as a script."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from procrastinate import core
from procrastinate.alembic import revisions, upgrades
from tests.conformance.runs import SyncRun
from tests.conformance.steps import defer, fetch_ids, query, worker
from tests.database import Databases, libpq_url
from tests.schema.snapshot import CODE, KINDS, Snapshot, take_snapshot

EMPTY: Snapshot = {kind: [] for kind in KINDS}


@pytest.fixture
def empty_engine(empty_database_url: str) -> Iterator[sa.Engine]:
    """An engine on a database without a schema."""
    engine = sa.create_engine(empty_database_url)
    yield engine
    engine.dispose()


def migrate(engine: sa.Engine, step: Callable[..., Any], *args: Any) -> None:
    """Run one step in a transaction."""
    with engine.begin() as connection:
        step(connection, *args)


def snapshot(engine: sa.Engine, schema: str = "public") -> Snapshot:
    """The schema as it is."""
    with engine.connect() as connection:
        return take_snapshot(connection, schema)


def revision(engine: sa.Engine) -> str | None:
    """The revision that the database says it has."""
    with engine.connect() as connection:
        return revisions.current_revision(connection)


def test_an_empty_database_has_no_revision(empty_engine: sa.Engine) -> None:
    assert revision(empty_engine) is None
    assert SyncRun(empty_engine)(core.jobs_table_exists) is False


def test_up_and_down_and_up_again(empty_engine: sa.Engine) -> None:
    migrate(empty_engine, upgrades.upgrade)
    first = snapshot(empty_engine)
    assert all(first.values())
    assert revision(empty_engine) == revisions.head_revision()

    migrate(empty_engine, upgrades.downgrade, "base")
    assert snapshot(empty_engine) == EMPTY
    assert revision(empty_engine) is None

    migrate(empty_engine, upgrades.upgrade)
    assert snapshot(empty_engine) == first


@pytest.mark.parametrize(("before", "after"), list(itertools.pairwise(revisions.known_revisions())))
def test_a_step_down_brings_back_the_functions_and_triggers_of_the_release_before(
    empty_engine: sa.Engine, before: str, after: str
) -> None:
    migrate(empty_engine, upgrades.upgrade, before)
    former = snapshot(empty_engine)
    migrate(empty_engine, upgrades.upgrade, after)
    migrate(empty_engine, upgrades.downgrade, before)
    back = snapshot(empty_engine)
    assert [back[kind] for kind in CODE] == [former[kind] for kind in CODE]


def test_the_known_revisions_are_those_of_alembic_in_its_order() -> None:
    """They are read from the names of the files, because Alembic takes long to load."""
    walked = ScriptDirectory.from_config(revisions.alembic_config()).walk_revisions()
    assert revisions.known_revisions() == tuple(reversed([revision.revision for revision in walked]))


def test_nothing_of_ours_is_left_after_the_way_down(empty_engine: sa.Engine) -> None:
    migrate(empty_engine, upgrades.upgrade)
    migrate(empty_engine, upgrades.downgrade, "base")
    left = SyncRun(empty_engine)(
        query,
        "SELECT relname FROM pg_class WHERE relname LIKE 'procrastinate_%' AND relname NOT LIKE '%alembic_version%'"
        " UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'procrastinate_%'"
        " UNION ALL SELECT typname FROM pg_type"
        " WHERE typname LIKE 'procrastinate_%' AND typname NOT LIKE '%alembic_version'",
    )
    assert left == []


def test_an_upgrade_that_has_nothing_to_do_does_nothing(engine: sa.Engine) -> None:
    before = snapshot(engine)
    SyncRun(engine)(core.defer_job, core.NewJob(queue_name="q", task_name="t", args="{}"))
    migrate(engine, upgrades.upgrade)
    assert snapshot(engine) == before
    assert SyncRun(engine)(core.get_job_status, 1) is core.Status.TODO


def test_an_upgrade_that_is_rolled_back_leaves_nothing(empty_engine: sa.Engine) -> None:
    with empty_engine.connect() as connection:
        upgrades.upgrade(connection)
        connection.rollback()
    assert snapshot(empty_engine) == EMPTY
    assert revision(empty_engine) is None


def test_several_upgrade_at_once(empty_engine: sa.Engine) -> None:
    """One migrates, the others wait, and then find nothing left to do."""
    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(migrate, empty_engine, upgrades.upgrade) for _ in range(4)]
        for future in futures:
            future.result(timeout=60)
    assert revision(empty_engine) == revisions.head_revision()
    assert all(snapshot(empty_engine).values())


def test_an_upgrade_that_has_to_wait_says_for_whom(empty_engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Any session can hold the lock of migrations."""
    with empty_engine.connect() as holder, ThreadPoolExecutor(1) as threads:
        pid = holder.exec_driver_sql("SELECT pg_backend_pid() FROM pg_advisory_lock(1886547811, 1)").scalar_one()
        upgraded = threads.submit(migrate, empty_engine, upgrades.upgrade)
        while not caplog.records and not upgraded.done():
            time.sleep(0.01)
        holder.exec_driver_sql("SELECT pg_advisory_unlock_all()")
        upgraded.result(timeout=60)
    (record,) = (record for record in caplog.records if vars(record).get("action") == "migration_waits")
    assert str(pid) in record.getMessage()
    assert revision(empty_engine) == revisions.head_revision()


def test_the_users_own_alembic_is_not_in_the_way(empty_engine: sa.Engine) -> None:
    own = "CREATE TABLE alembic_version (version_num varchar(32)); INSERT INTO alembic_version VALUES ('theirs')"
    with empty_engine.begin() as connection:
        connection.exec_driver_sql(own)
    migrate(empty_engine, upgrades.upgrade)
    assert SyncRun(empty_engine)(query, "SELECT version_num FROM alembic_version") == [("theirs",)]


@pytest.mark.parametrize("transactional", [False, True])
def test_the_script_gives_the_same_schema(
    engine: sa.Engine, empty_engine: sa.Engine, empty_database_url: str, transactional: bool
) -> None:
    script = upgrades.upgrade_sql(transactional=transactional)
    assert ("BEGIN;" in script, "COMMIT;" in script) == (transactional, transactional)
    with psycopg.connect(libpq_url(empty_database_url), autocommit=True) as connection:
        connection.execute(script)  # type: ignore[call-overload]
    assert snapshot(empty_engine) == snapshot(engine)
    assert revision(empty_engine) == revisions.head_revision()


def test_the_script_takes_everything_back(engine: sa.Engine, database_url: str) -> None:
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        connection.execute(upgrades.downgrade_sql(revisions.head_revision()))  # type: ignore[call-overload]
    assert snapshot(engine) == EMPTY


def test_no_percent_sign_is_doubled_in_the_script() -> None:
    assert "%%" not in upgrades.upgrade_sql()


@pytest.fixture
def other_schema(empty_database_url: str) -> Iterator[sa.Engine]:
    """An engine that lives in a schema of its own, migrated there."""
    url = sa.make_url(empty_database_url).update_query_dict({"options": "-csearch_path=myschema"})
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA myschema")
        upgrades.upgrade(connection)
    yield engine
    engine.dispose()


def test_another_schema_is_the_same_schema(engine: sa.Engine, other_schema: sa.Engine) -> None:
    assert snapshot(other_schema, "myschema") == snapshot(engine)
    assert snapshot(other_schema, "public") == EMPTY


def test_the_queue_works_in_another_schema(other_schema: sa.Engine) -> None:
    run = SyncRun(other_schema)
    worker_id = worker(run)
    first, second = defer(run, lock="l"), defer(run, lock="l")
    assert fetch_ids(run, worker_id) == [first]
    finished = [core.FinishedJob(id=first, attempts=0, status=core.Status.SUCCEEDED)]
    assert run(core.finish_jobs, finished, worker_id=worker_id) == {first}
    assert fetch_ids(run, worker_id) == [second]
    tick = run(
        core.defer_tick,
        core.NewJob(queue_name="q", task_name="t", args="{}"),
        periodic_id="",
        defer_timestamp=1,
    )
    assert tick.job_id is not None


@pytest.mark.parametrize("search_path", ["public", '""', "pg_catalog"])
def test_a_writer_that_looks_elsewhere_keeps_history_and_locks(
    other_schema: sa.Engine, empty_database_url: str, search_path: str
) -> None:
    """Triggers find the tables of the schema in which they were made."""
    run = SyncRun(other_schema)
    with psycopg.connect(libpq_url(empty_database_url), autocommit=True) as writer:
        writer.execute("SELECT set_config('search_path', %s, false)", [search_path])
        writer.execute(
            "INSERT INTO myschema.procrastinate_jobs (queue_name, task_name, lock)"
            " VALUES ('q', 't', 'l'), ('q', 't', 'l')"
        )
        assert fetch_ids(run, worker(run)) == [1]
        writer.execute("UPDATE myschema.procrastinate_jobs SET status = 'failed' WHERE id = 1")
        assert fetch_ids(run, worker(run)) == [2]
        writer.execute("DELETE FROM myschema.procrastinate_jobs WHERE id = 2")
    events = run(query, "SELECT job_id, type::text FROM myschema.procrastinate_events ORDER BY id")
    assert events == [(1, "deferred"), (1, "started"), (1, "failed")]


def test_two_queues_live_in_two_schemas_of_one_database(other_schema: sa.Engine, empty_database_url: str) -> None:
    engine = sa.create_engine(empty_database_url)
    migrate(engine, upgrades.upgrade)
    here, there = SyncRun(engine), SyncRun(other_schema)
    defer(here)
    assert (len(here(core.list_jobs, core.JobFilter())), len(there(core.list_jobs, core.JobFilter()))) == (1, 0)
    engine.dispose()


def test_a_template_is_as_good_as_a_migration(databases: Databases, engine: sa.Engine, empty_engine: sa.Engine) -> None:
    """The databases of tests are clones: they are what users get."""
    migrate(empty_engine, upgrades.upgrade)
    assert snapshot(empty_engine) == snapshot(engine)
