"""Several processes upgrade the same tables, or bring the same schema along, at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate import schema
from procrastinate.alembic import build_ahead, upgrades
from procrastinate.alembic.adoption import statements
from tests.database import libpq_url
from tests.moving.rows import execute
from tests.moving.test_adoption import STEPS, apply_schema, execute_step, snapshot_of, without_rests

INDEXES = [
    *statements.INDEXES,
    *(name for ahead in build_ahead.pending("procrastinate_0006") for name in ahead.indexes),
]
COPIES = "SELECT proname, prosrc FROM pg_proc WHERE right(proname, 6) = '_of_3x' ORDER BY 1"


@pytest.fixture
def slow_engine(filled_url: str) -> Iterator[sa.Engine]:
    """An engine whose statements a test can hold up."""
    engine = sa.create_engine(filled_url, poolclass=sa.NullPool)
    yield engine
    engine.dispose()


def apply_with(engine: sa.Engine) -> None:
    """Apply the schema on an engine."""
    app = procrastinate.App(connector=engine)
    with app.open():
        app.schema_manager.apply_schema()


@pytest.mark.parametrize("index", ["procrastinate_jobs_finished_idx", *build_ahead.RENAMED])
def test_an_index_that_is_built_after_another_process_has_finished_is_not_left_behind(
    slow_engine: sa.Engine, filled_url: str, database_url: str, index: str
) -> None:
    """The other one comes to its end just before the statement that builds the index."""
    came = []

    @sa.event.listens_for(slow_engine, "before_cursor_execute")
    def overtake(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if f"CONCURRENTLY IF NOT EXISTS {index} " in statement and not came:
            came.append(statement)
            apply_schema(filled_url)

    apply_with(slow_engine)
    assert came
    assert without_rests(snapshot_of(filled_url)) == without_rests(snapshot_of(database_url))


@pytest.mark.parametrize("index", build_ahead.RENAMED)
def test_an_index_that_a_killed_process_has_left_behind_is_dropped_by_the_next_one(
    filled_url: str, database_url: str, index: str
) -> None:
    apply_schema(filled_url)
    execute(filled_url, f"CREATE INDEX {index} ON procrastinate_jobs (status)")
    apply_schema(filled_url)
    assert without_rests(snapshot_of(filled_url)) == without_rests(snapshot_of(database_url))


def test_every_index_that_gets_another_name_is_known(filled_url: str) -> None:
    """Of two processes at once, the slower one may build such an index again."""
    apply_schema(filled_url)
    gone = {name for name in INDEXES if execute(filled_url, "SELECT to_regclass(%s) IS NULL", name) == [(True,)]}
    assert gone == set(build_ahead.RENAMED)


@pytest.mark.parametrize("index", ["procrastinate_jobs_ready_idx", "procrastinate_jobs_queueing_lock_idx"])
def test_an_unfinished_index_that_another_process_has_built_by_now_is_left_alone(
    slow_engine: sa.Engine, filled_url: str, database_url: str, index: str
) -> None:
    with slow_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for step in STEPS[: [step.index for step in STEPS].index(index) + 1]:
            for statement in step.statements:
                execute_step(connection, statement)
    execute(filled_url, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", index)
    came: list[list[str]] = []

    @sa.event.listens_for(slow_engine, "before_cursor_execute")
    def overtake(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if "DROP INDEX" in statement and index in statement and not came:
            came.append([])
            came.append(apply_schema(filled_url))

    apply_with(slow_engine)
    assert any("not finished" in line for line in came[1])
    assert without_rests(snapshot_of(filled_url)) == without_rests(snapshot_of(database_url))


_WAITS_FOR_LOCK = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'procrastinate_jobs'::regclass"
_BUILDS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'"
)


def test_a_migration_lets_an_index_be_finished_that_waits_for_its_transaction(
    engine: sa.Engine, database_url: str
) -> None:
    """Each waits for the other: the builder has a lock on the table, and the migration an older snapshot."""
    with engine.begin() as connection:
        upgrades.downgrade(connection, "procrastinate_0018")
    url = libpq_url(database_url)
    begun = threading.Event()

    @sa.event.listens_for(engine, "before_cursor_execute")
    def begin_index(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if "LOCK TABLE procrastinate_jobs" in statement and not begun.is_set():
            begun.set()
            writer.execute("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')")
            builder.append(
                pool.submit(execute, database_url, "CREATE INDEX CONCURRENTLY users ON procrastinate_jobs (args)")
            )
            while watcher.execute(_BUILDS).fetchone() == (0,):
                time.sleep(0.01)
            pool.submit(let_go)

    def let_go() -> None:
        while watcher.execute(_WAITS_FOR_LOCK).fetchone() == (0,):
            time.sleep(0.01)
        writer.commit()

    builder: list[Any] = []
    with (
        ThreadPoolExecutor(2) as pool,
        psycopg.connect(url, autocommit=True) as watcher,
        psycopg.connect(url) as writer,
    ):
        start = time.monotonic()
        apply_with(engine)
        builder[0].result(timeout=60)
        assert time.monotonic() - start < 60
    assert execute(database_url, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'users'::regclass") == [(True,)]


BLOCKS = [number for number, step in enumerate(STEPS) if "pg_advisory_xact_lock" in step.statements[0]]


@pytest.mark.parametrize("waits_at", BLOCKS)
def test_a_step_that_has_waited_for_a_whole_adoption_changes_nothing(filled_url: str, waits_at: int) -> None:
    """The session looked for our tables before, and remembers that there were none."""
    engine = sa.create_engine(filled_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    other = sa.create_engine(filled_url, poolclass=sa.NullPool)
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with engine.connect() as slow, other.connect() as fast, ThreadPoolExecutor(1) as pool:
        for step in STEPS[:waits_at]:
            for statement in step.statements:
                execute_step(slow, statement)
        slow.exec_driver_sql(
            "SELECT to_regclass('procrastinate_alembic_version'), to_regproc('procrastinate_fetch_job_v2_of_3x'), "
            "to_regproc('procrastinate_jobs_inserted')"
        )
        schema.adopt(fast)
        before = fast.exec_driver_sql(COPIES).all()
        statement = STEPS[waits_at].statements[0].replace("500ms", "30s")
        step = pool.submit(execute_step, slow, statement)
        while execute(filled_url, waiting) == [(0,)]:
            assert not step.done()
            time.sleep(0.01)
        fast.commit()
        after = snapshot_of(filled_url)
        step.result(timeout=60)
        assert [tuple(row) for row in before] == execute(filled_url, COPIES)
        assert snapshot_of(filled_url) == after
