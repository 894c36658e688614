"""Workers and writers of 3.10 and of this release on the same tables, one hazard at a time.

The functions are called as 3.10 calls them, on a fresh database of ours and on one that was upgraded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate import core
from procrastinate.alembic import upgrades
from procrastinate.alembic.settings import hold_fetches_of_3x, hold_late_fetches_of_3x, let_fetches_of_3x_go_on
from procrastinate.core import FetchedJob, FinishedJob, JobRetry, Status
from procrastinate.worker import LEGACY_WORKER_TIMEOUT
from tests.database import Databases, libpq_url, new_job
from tests.moving.rows import execute
from tests.moving.test_django import manage


@pytest.fixture(params=["fresh", "adopted"])
def url(request: pytest.FixtureRequest, databases: Databases) -> Iterator[str]:
    """A database without jobs."""
    if request.param == "fresh":
        made = databases.create_migrated()
    else:
        made = databases.clone(request.getfixturevalue("template_of_3x"))
        app = procrastinate.App(connector=made)
        with app.open():
            app.schema_manager.apply_schema()
            # Fetches that began before the columns were there find nothing. Here none did.
            execute(made, "COMMENT ON FUNCTION procrastinate_fetch_job_v2 IS NULL")
    yield made
    databases.drop(made)


@pytest.fixture
def ours(url: str) -> Iterator[sa.Connection]:
    """A connection of this release's."""
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection


class Of3x:
    """A worker and a writer of 3.x, as far as the database can tell."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.worker_id = self.query("SELECT worker_id FROM procrastinate_register_worker_v1()")[0][0]

    def query(self, statement: str, *values: object) -> list[Any]:
        """The rows of a statement."""
        return self._connection.execute(statement.encode(), values or None).fetchall()

    def defer(
        self, *, lock: str | None = None, priority: int = 0, queueing_lock: str | None = None, at: str | None = None
    ) -> int:
        """Defer one job."""
        job = "ROW('q', 't', %s::integer, %s::text, %s::text, '{}'::jsonb, %s::timestamptz)"
        call = f"SELECT unnest(procrastinate_defer_jobs_v1(ARRAY[{job}]::procrastinate_job_to_defer_v1[]))"
        return int(self.query(call, priority, lock, queueing_lock, at)[0][0])

    def fetch(self) -> int | None:
        """Fetch one job, and return its id."""
        found: int | None = self.query("SELECT id FROM procrastinate_fetch_job_v2(NULL, %s)", self.worker_id)[0][0]
        return found

    def finish(self, job_id: int, status: str = "succeeded") -> None:
        """Finish a job."""
        self.query("SELECT procrastinate_finish_job_v1(%s, %s, false)", job_id, status)

    def retry(self, job_id: int, after: str = "0") -> None:
        """Retry a job after some time."""
        at = f"now() + interval '{after}'"
        self.query(f"SELECT procrastinate_retry_job_v2(%s, {at}, NULL, NULL, NULL)", job_id)


@pytest.fixture
def theirs(url: str) -> Iterator[Of3x]:
    """A worker of 3.x."""
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        yield Of3x(connection)


def worker(ours: sa.Connection) -> int:
    """The id of a worker of this release's."""
    return core.register_worker(ours, core.WorkerTerms(heartbeat_interval=10, stalled_timeout=30))


def fetch(ours: sa.Connection, worker_id: int) -> list[int]:
    """What a worker of this release fetches, after it has promoted what is due."""
    core.promote_jobs(ours)
    return [job.id for job in core.fetch_jobs(ours, worker_id=worker_id, limit=5)]


def row_of(ours: sa.Connection, job_id: int) -> tuple[Any, ...]:
    """Status, readiness and attempts of a job."""
    found = ours.exec_driver_sql(
        f"SELECT status::text, readiness, attempts FROM procrastinate_jobs WHERE id = {job_id}"  # noqa: S608
    )
    return tuple(found.one())


def test_a_promoted_job_has_its_lock_before_one_of_a_higher_priority(ours: sa.Connection, theirs: Of3x) -> None:
    promoted = theirs.defer(lock="l")
    core.promote_jobs(ours)
    later = theirs.defer(lock="l", priority=9)
    assert (theirs.fetch(), theirs.fetch()) == (promoted, None)
    theirs.finish(promoted)
    assert theirs.fetch() == later


@pytest.mark.parametrize("lock", [None, "l"])
def test_a_promoted_job_that_3x_fetches_and_retries_waits_for_its_time(
    ours: sa.Connection, theirs: Of3x, lock: str | None
) -> None:
    job_id = theirs.defer(lock=lock, at="2020-01-01")
    core.promote_jobs(ours)
    assert theirs.fetch() == job_id
    theirs.retry(job_id, "1 hour")
    assert row_of(ours, job_id) == ("todo", 0, 1)
    assert fetch(ours, worker(ours)) == []
    assert theirs.fetch() is None


@pytest.mark.parametrize("lock", [None, "l"])
@pytest.mark.parametrize(
    "recovery",
    [
        "SELECT procrastinate_retry_job_v2({id}, now() + interval '1 hour', NULL, NULL, NULL)",
        "UPDATE procrastinate_jobs SET status = 'todo', scheduled_at = now() + interval '1 hour' WHERE id = {id} "
        "RETURNING id",
    ],
    ids=["function", "plain SQL"],
)
def test_a_job_of_ours_that_is_sent_back_with_sql_waits_for_its_time(
    ours: sa.Connection, theirs: Of3x, lock: str | None, recovery: str
) -> None:
    job_id = theirs.defer(lock=lock, at="2020-01-01")
    worker_id = worker(ours)
    assert fetch(ours, worker_id) == [job_id]
    theirs.query(recovery.format(id=job_id))
    assert fetch(ours, worker_id) == []
    assert theirs.fetch() is None


def test_a_parked_job_is_fetched_by_3x_when_the_holder_ends(ours: sa.Connection, theirs: Of3x) -> None:
    holder, parked = theirs.defer(lock="l"), theirs.defer(lock="l")
    assert fetch(ours, worker(ours)) == [holder]
    assert theirs.fetch() is None
    theirs.finish(holder)
    assert theirs.fetch() == parked


def test_a_job_that_ours_has_parked_is_let_go_when_its_holder_of_3x_ends(ours: sa.Connection, theirs: Of3x) -> None:
    """At once, and not by a later look at parked jobs."""
    holder, parked = theirs.defer(lock="l"), theirs.defer(lock="l")
    assert theirs.fetch() == holder
    worker_id = worker(ours)
    assert fetch(ours, worker_id) == []
    assert row_of(ours, parked) == ("todo", core.Readiness.PARKED, 0)
    theirs.finish(holder)
    assert [job.id for job in core.fetch_jobs(ours, worker_id=worker_id, limit=5)] == [parked]


def test_a_failed_job_is_retried_by_3x_while_another_has_its_lock(ours: sa.Connection, theirs: Of3x) -> None:
    failed = theirs.defer(lock="l")
    worker_id = worker(ours)
    fetch(ours, worker_id)
    core.finish_jobs(ours, [FinishedJob(id=failed, attempts=0, status=Status.FAILED)], worker_id=worker_id)
    holder = theirs.defer(lock="l")
    assert fetch(ours, worker_id) == [holder]
    theirs.retry(failed)
    assert row_of(ours, failed) == ("todo", 0, 2)
    assert (fetch(ours, worker_id), theirs.fetch()) == ([], None)


def test_a_job_of_the_future_does_not_hold_up_its_lock_for_3x(theirs: Of3x) -> None:
    theirs.defer(lock="l", at="2099-01-01")
    ready = theirs.defer(lock="l")
    assert theirs.fetch() == ready


def test_3x_learns_by_the_name_of_the_index_that_a_queueing_lock_is_taken(theirs: Of3x) -> None:
    theirs.defer(queueing_lock="x")
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        theirs.defer(queueing_lock="x")
    assert caught.value.diag.constraint_name == "procrastinate_jobs_queueing_lock_idx_v1"


def test_ours_learns_that_3x_has_taken_a_queueing_lock(url: str, theirs: Of3x) -> None:
    theirs.defer(queueing_lock="x")
    app = procrastinate.App(connector=url)
    with app.open(), pytest.raises(procrastinate.exceptions.AlreadyEnqueued):
        app.configure_task("t", queueing_lock="x").defer()


@pytest.mark.parametrize("silence", ["31 seconds", "59 minutes"])
def test_a_worker_of_3x_that_drains_keeps_its_job(ours: sa.Connection, theirs: Of3x, silence: str) -> None:
    """It sends no heartbeat then. Neither a worker of this release takes the job, nor another of 3.x prunes it."""
    job_id = theirs.defer()
    theirs.fetch()
    theirs.query("UPDATE procrastinate_workers SET last_heartbeat = now() - %s::interval RETURNING id", silence)
    late = core.list_late_workers(ours, worker_id=-1, heartbeat_interval=10, stalled_timeout=LEGACY_WORKER_TIMEOUT)
    assert [(one.id, one.stalled_timeout) for one in late] == [(theirs.worker_id, LEGACY_WORKER_TIMEOUT)]
    assert theirs.query("SELECT * FROM procrastinate_prune_stalled_workers_v1(30)") == []
    assert core.rescue_jobs(ours, max_rescues=5) == []
    theirs.finish(job_id)
    assert row_of(ours, job_id) == ("succeeded", 0, 1)


def test_a_worker_of_3x_that_is_silent_for_more_than_an_hour_is_pruned_by_3x(ours: sa.Connection, theirs: Of3x) -> None:
    """Its jobs have no worker then, which is how 3.x finds them."""
    job_id = theirs.defer()
    theirs.fetch()
    ours.exec_driver_sql("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '61 minutes'")
    pruned = theirs.query("SELECT * FROM procrastinate_prune_stalled_workers_v1(30)")
    assert pruned == [(theirs.worker_id,)]
    assert theirs.query("SELECT worker_id FROM procrastinate_jobs WHERE id = %s", job_id) == [(None,)]


def test_a_worker_of_ours_is_judged_by_3x_on_its_own_terms(ours: sa.Connection, theirs: Of3x) -> None:
    core.register_worker(ours, core.WorkerTerms(heartbeat_interval=10, stalled_timeout=300))
    ours.exec_driver_sql(
        "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '299 seconds' WHERE stalled_timeout = 300"
    )
    assert theirs.query("SELECT * FROM procrastinate_prune_stalled_workers_v1(30)") == []


def test_the_jobs_of_a_worker_of_3x_that_leaves_are_rescued(ours: sa.Connection, theirs: Of3x) -> None:
    job_id = theirs.defer()
    theirs.fetch()
    theirs.query("SELECT procrastinate_unregister_worker_v1(%s)", theirs.worker_id)
    assert [job.id for job in core.rescue_jobs(ours, max_rescues=5)] == [job_id]


def test_a_tick_of_3x_leaves_earlier_ticks(ours: sa.Connection, theirs: Of3x) -> None:
    """A worker of this release would defer one of them again."""
    first = core.defer_tick(ours, new_job(task_name="t"), periodic_id="", defer_timestamp=1)
    assert first.job_id is not None
    call = "SELECT procrastinate_defer_periodic_job_v2('q', NULL, NULL, 't', 0, '', %s, '{}')"
    assert theirs.query(call, 1) == [(None,)]
    assert theirs.query(call, 2)[0][0] is not None
    assert core.defer_tick(ours, new_job(task_name="t"), periodic_id="", defer_timestamp=1).job_id is None


def test_a_job_that_ours_releases_is_as_ready_as_it_was(ours: sa.Connection, theirs: Of3x) -> None:
    holder, waiting = theirs.defer(lock="l", at="2020-01-01"), theirs.defer(lock="l")
    worker_id = worker(ours)
    assert fetch(ours, worker_id) == [holder]
    core.release_jobs(ours, [FetchedJob(id=holder, attempts=0)], worker_id=worker_id)
    assert row_of(ours, holder) == ("todo", core.Readiness.PROMOTED, 0)
    assert (theirs.fetch(), theirs.fetch()) == (holder, None)
    theirs.finish(holder)
    assert theirs.fetch() == waiting


def test_a_job_that_ours_retries_is_fetched_by_3x(ours: sa.Connection, theirs: Of3x) -> None:
    job_id = theirs.defer(lock="l")
    worker_id = worker(ours)
    fetch(ours, worker_id)
    core.retry_jobs(ours, [JobRetry(id=job_id, attempts=0)], worker_id=worker_id)
    assert theirs.fetch() == job_id


def test_a_job_whose_queueing_lock_is_taken_is_retried_by_3x_without_it(ours: sa.Connection, theirs: Of3x) -> None:
    job_id = theirs.defer(queueing_lock="x")
    theirs.fetch()
    theirs.defer(queueing_lock="x")
    theirs.retry(job_id)
    assert row_of(ours, job_id) == ("todo", 0, 1)


ADD_A_COLUMN = "ALTER TABLE procrastinate_jobs ADD COLUMN further integer"


def test_nothing_is_fetched_while_a_migration_is_under_way(url: str, theirs: Of3x) -> None:
    """A fetch that waited for a new column would answer with more than its query expects."""
    job_id = theirs.defer()
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as migration:
        columns = hold_fetches_of_3x(migration)
        migration.exec_driver_sql(ADD_A_COLUMN)
        assert theirs.fetch() is None
        hold_late_fetches_of_3x(migration, columns)
    while (found := theirs.fetch()) is None:
        time.sleep(0.05)
    assert found == job_id


def test_a_fetch_that_begins_before_a_migration_and_comes_after_it_finds_nothing(url: str, theirs: Of3x) -> None:
    """PostgreSQL has looked at the columns by then, and has not called the function."""
    job_id = theirs.defer()
    late = (
        "SELECT job.id FROM (SELECT pg_advisory_xact_lock(77)::text AS nothing) AS wait "
        "CROSS JOIN LATERAL procrastinate_fetch_job_v2(NULL, %s + length(wait.nothing)) AS job"
    )
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as migration:
            migration.exec_driver_sql("SELECT pg_advisory_xact_lock(77)")
            fetch = threads.submit(theirs.query, late, theirs.worker_id)
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted"
            while not migration.exec_driver_sql(waiting).scalar_one():
                assert not fetch.done()
            columns = hold_fetches_of_3x(migration)
            migration.exec_driver_sql(ADD_A_COLUMN)
            hold_late_fetches_of_3x(migration, columns)
        assert fetch.result(timeout=30) == [(None,)]
    assert theirs.query("SELECT status::text FROM procrastinate_jobs WHERE id = %s", job_id) == [("todo",)]


COMMENT = "SELECT obj_description(to_regproc('procrastinate_fetch_job_v2'), 'pg_proc')"


def test_fetches_go_on_as_soon_as_a_migration_has_committed(url: str, theirs: Of3x) -> None:
    job_id = theirs.defer()
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as migration:
        columns = hold_fetches_of_3x(migration)
        migration.exec_driver_sql(ADD_A_COLUMN)
        hold_late_fetches_of_3x(migration, columns)
        held = migration.exec_driver_sql(COMMENT).scalar_one()
        let_fetches_of_3x_go_on(migration)
        assert migration.exec_driver_sql(COMMENT).scalar_one() == held
    with engine.begin() as connection:
        let_fetches_of_3x_go_on(connection)
    assert theirs.fetch() == job_id


@pytest.mark.parametrize("way", ["alembic", "django"])
def test_a_revision_that_changes_the_columns_holds_late_fetches(way: str, empty_database_url: str) -> None:
    """The revision itself does nothing for it. A trigger adds the column here, in the middle of it."""
    engine = sa.create_engine(empty_database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        upgrades.upgrade(connection, "procrastinate_0007")
        assert connection.exec_driver_sql(COMMENT).scalar_one() is None
        connection.exec_driver_sql(
            "CREATE FUNCTION change() RETURNS event_trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {ADD_A_COLUMN.replace('COLUMN', 'COLUMN IF NOT EXISTS')}; END $$"
        )
        connection.exec_driver_sql(
            "CREATE EVENT TRIGGER change ON ddl_command_end WHEN TAG IN ('CREATE FUNCTION') EXECUTE FUNCTION change()"
        )
    if way == "alembic":
        with engine.begin() as connection:
            upgrades.upgrade(connection)
    else:
        manage(empty_database_url, "migrate", "procrastinate")
    with engine.connect() as connection:
        assert connection.exec_driver_sql(COMMENT).scalar_one().startswith("Fetches nothing before 20")


def test_a_script_of_later_revisions_holds_late_fetches(empty_database_url: str) -> None:
    """It cannot know whether the columns change, so it always does."""
    script = upgrades.upgrade_sql("procrastinate_0007")
    assert (
        script.index("pg_advisory_xact_lock") < script.index("procrastinate_0008") < script.index("COMMENT ON FUNCTION")
    )
    engine = sa.create_engine(empty_database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        upgrades.upgrade(connection, "procrastinate_0007")
    execute(empty_database_url, script)
    assert str(execute(empty_database_url, COMMENT)[0][0]).startswith("Fetches nothing before 20")


def test_a_revision_that_leaves_the_columns_holds_no_late_fetches(empty_database_url: str) -> None:
    engine = sa.create_engine(empty_database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        upgrades.upgrade(connection, "procrastinate_0007")
        upgrades.upgrade(connection, "procrastinate_0008")
        assert connection.exec_driver_sql(COMMENT).scalar_one() is None


def test_ids_come_back_in_the_order_of_the_jobs(theirs: Of3x) -> None:
    jobs = ", ".join(f"ROW('q', 'task {number % 7}', 0, NULL, NULL, '{{}}', NULL)" for number in range(100))
    ((ids,),) = theirs.query(f"SELECT procrastinate_defer_jobs_v1(ARRAY[{jobs}]::procrastinate_job_to_defer_v1[])")
    names = dict(theirs.query("SELECT id, task_name FROM procrastinate_jobs"))
    assert [names[job_id] for job_id in ids] == [f"task {number % 7}" for number in range(100)]


@pytest.mark.parametrize("abort", [False, True])
@pytest.mark.parametrize("delete", [False, True])
def test_a_waiting_job_is_cancelled_with_sql(ours: sa.Connection, theirs: Of3x, abort: bool, delete: bool) -> None:
    job_id = theirs.defer(lock="l")
    core.promote_jobs(ours)
    cancel = "SELECT procrastinate_cancel_job_v1(%s, %s, %s)"
    assert theirs.query(cancel, job_id, abort, delete) == [(job_id,)]
    assert theirs.query(cancel, job_id, abort, delete) == [(None,)]
    left = theirs.query("SELECT status::text, abort_requested FROM procrastinate_jobs")
    assert left == ([] if delete else [("cancelled", False)])


def test_a_running_job_is_aborted_with_sql_if_that_is_asked_for(theirs: Of3x) -> None:
    job_id = theirs.defer()
    theirs.fetch()
    assert theirs.query("SELECT procrastinate_cancel_job_v1(%s, false, false)", job_id) == [(None,)]
    assert theirs.query("SELECT procrastinate_cancel_job_v1(%s, true, true)", job_id) == [(job_id,)]
    assert theirs.query("SELECT status::text, abort_requested FROM procrastinate_jobs") == [("doing", True)]
    theirs.retry(job_id)
    assert theirs.query("SELECT status::text, abort_requested FROM procrastinate_jobs") == [("failed", False)]


@pytest.mark.parametrize(
    "call",
    [
        "procrastinate_finish_job_v1(1, 'succeeded', false)",
        "procrastinate_retry_job_v2(1, now(), NULL, NULL, NULL)",
        "procrastinate_retry_job_v1(1, now(), NULL, NULL, NULL)",
    ],
)
def test_what_cannot_be_done_with_a_job_is_an_error(theirs: Of3x, call: str) -> None:
    theirs.finish(theirs.defer())
    with pytest.raises(psycopg.errors.RaiseException, match=r"Job 1 can not be .*status"):
        theirs.query(f"SELECT {call}")
