"""Unique keys under concurrency: one job for each key, at any isolation level."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa

from procrastinate import App, Unique, core, exceptions
from procrastinate.adapters.standalone import SQLAlchemyConnector
from procrastinate.core import Status, UniqueDefer, UniqueJob, UniqueKey
from procrastinate.core.unique_keys import Until
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.types import OnConflict
from tests.conformance.runs import SyncRun
from tests.conformance.steps import change, fetch, fetch_one, finish, query, worker
from tests.core.test_concurrency import wait_for, wait_until_blocked
from tests.database import libpq_url, new_job

PRODUCERS = 16


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Yield a thread pool for concurrent calls."""
    with ThreadPoolExecutor(PRODUCERS) as threads:
        yield threads


@contextlib.contextmanager
def transaction(engine: sa.Engine, isolation_level: str) -> Iterator[sa.Connection]:
    """Open a user's transaction that has its snapshot, and commit it at the end."""
    with engine.connect() as connection:
        connection.execution_options(isolation_level=isolation_level)
        connection.execute(sa.text("SELECT count(*) FROM procrastinate_uniques"))
        yield connection
        assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1
        connection.commit()


def unique_job(key: str = "k", until: Until = "start", period: float | None = None) -> UniqueJob:
    return UniqueJob(job=new_job(), unique=UniqueKey(key=key, until=until, period=period))


@pytest.mark.parametrize("on_conflict", ["raise", "skip", "replace"])
@pytest.mark.parametrize("until", ["start", "end", "period"])
def test_producers_of_one_key_make_one_job(
    run: SyncRun, engine: sa.Engine, threads: ThreadPoolExecutor, until: Until, on_conflict: OnConflict
) -> None:
    """Some keys are new, some are of jobs that have ended, and some of a job that is gone."""
    period = 3600.0 if until == "period" else None
    keys = [f"key {number}" for number in range(12)]
    for number, key in enumerate(keys):
        if number % 3:
            (ended,) = run(core.defer_unique_job, unique_job(key, "end"), on_conflict="raise").ids
            change(run, ended, status=Status.SUCCEEDED.value, finished_at=datetime.datetime.now(datetime.UTC))
            if number % 3 == 1:
                run(query, f"DELETE FROM procrastinate_jobs WHERE id = {ended}")  # noqa: S608

    def produce(_: int) -> list[UniqueDefer]:
        return [run(core.defer_unique_job, unique_job(key, until, period), on_conflict=on_conflict) for key in keys]

    results = list(threads.map(produce, range(PRODUCERS)))
    assert run(query, "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'") == [(len(keys),)]
    for of_key in zip(*results, strict=True):
        ids = {job_id for deferred in of_key for job_id in deferred.ids}
        assert len(ids) == 1
        assert sum(deferred.taken is None for deferred in of_key) == (1 if on_conflict == "raise" else PRODUCERS)


def test_batches_of_the_same_keys_neither_deadlock_nor_double(run: SyncRun, threads: ThreadPoolExecutor) -> None:
    keys = [f"key {number}" for number in range(30)]

    def produce(number: int) -> None:
        batch = [unique_job(key) for key in (keys if number % 2 else reversed(keys))]
        for on_conflict in ("skip", "replace"):
            assert len(run(core.defer_unique_jobs, batch, on_conflict=on_conflict).ids) == len(keys)

    list(threads.map(produce, range(8)))
    assert run(query, "SELECT count(*) FROM procrastinate_jobs") == [(len(keys),)]


@pytest.mark.parametrize("isolation_level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("on_conflict", ["raise", "skip", "replace"])
def test_a_key_that_another_has_just_taken_leaves_the_transaction_usable(
    run: SyncRun, engine: sa.Engine, isolation_level: str, on_conflict: OnConflict
) -> None:
    """A transaction whose snapshot is older than the other job cannot name that job."""
    manager = JobManager(SQLAlchemyConnector(engine))
    with transaction(engine, isolation_level) as connection:

        def defer(*jobs: UniqueJob, on_conflict: OnConflict) -> list[int]:
            made = [Job(queue="q", task_name="t", lock=None, queueing_lock=None) for _ in jobs]
            keys = [job.unique for job in jobs]
            return manager.defer_unique_jobs(made, keys, connection, on_conflict=on_conflict)

        (other,) = run(core.defer_unique_job, unique_job(), on_conflict="raise").ids
        sees_it = isolation_level == "READ COMMITTED"
        if sees_it and on_conflict != "raise":
            assert defer(unique_job(), on_conflict=on_conflict) == [other]
        else:
            with pytest.raises(exceptions.AlreadyEnqueued, match="the unique key k") as info:
                defer(unique_job(), on_conflict=on_conflict)
            assert info.value.job_id == (other if sees_it else None)
        with pytest.raises(exceptions.AlreadyEnqueued):
            defer(unique_job("new"), unique_job(), on_conflict="raise")
        (own,) = defer(unique_job("own"), on_conflict="raise")
        assert defer(unique_job("own"), on_conflict="replace") == [own]
    assert run(query, "SELECT id FROM procrastinate_jobs ORDER BY id") == [(other,), (own,)]


def test_a_connection_that_commits_each_statement_defers_at_any_level(database_url: str) -> None:
    app = App(connector=database_url)
    with app.open(), psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        connection.execute("SET default_transaction_isolation = 'serializable'")
        deferrer = app.configure_task("t", unique=Unique(by="k", on_conflict="skip"), connection=connection)
        assert deferrer.defer() == deferrer.defer() == deferrer.batch_defer({}, {})[1]


def test_a_defer_waits_for_the_open_transaction_that_has_taken_its_key(
    run: SyncRun, engine: sa.Engine, threads: ThreadPoolExecutor
) -> None:
    with transaction(engine, "READ COMMITTED") as connection:
        (own,) = core.defer_unique_job(connection, unique_job(), on_conflict="raise").ids
        call = threads.submit(run, core.defer_unique_job, unique_job(), on_conflict="skip")
        wait_until_blocked(run, call)
    assert wait_for(call).ids == (own,)


def test_a_defer_that_skips_in_an_open_transaction_holds_up_no_other(run: SyncRun, engine: sa.Engine) -> None:
    (waiting,) = run(core.defer_unique_job, unique_job(), on_conflict="raise").ids
    with transaction(engine, "READ COMMITTED") as connection:
        core.defer_unique_job(connection, unique_job(), on_conflict="skip")
        assert core.defer_unique_job(connection, unique_job(), on_conflict="raise").taken is not None
        running = fetch_one(run, worker(run))
        assert run(core.defer_unique_job, unique_job(), on_conflict="raise").ids
        assert finish(run, running) == {waiting}


def test_a_job_that_starts_while_it_is_about_to_be_replaced_is_left_alone(
    run: SyncRun, engine: sa.Engine, threads: ThreadPoolExecutor
) -> None:
    (first,) = run(core.defer_unique_job, unique_job(), on_conflict="raise").ids
    worker_id = worker(run)
    with transaction(engine, "READ COMMITTED") as fetching:
        core.fetch_jobs(fetching, worker_id=worker_id, limit=1)
        call = threads.submit(run, core.defer_unique_job, unique_job(), on_conflict="replace")
        wait_until_blocked(run, call)
    (second,) = wait_for(call).ids
    assert second != first
    assert [job.id for job in fetch(run, worker_id)] == [second]


def test_a_key_that_is_taken_during_a_sweep_stays(run: SyncRun, engine: sa.Engine) -> None:
    """The sweep has looked at the row before the other takes the key, and would delete it after."""
    (gone,) = run(core.defer_unique_job, unique_job(until="end"), on_conflict="raise").ids
    run(core.cancel_job, gone, delete=True)
    with transaction(engine, "READ COMMITTED") as connection:
        core.defer_unique_job(connection, unique_job(until="end"), on_conflict="raise")
        assert run(core.sweep_unique_keys).deleted == 0
    assert run(core.sweep_unique_keys).deleted == 0
    assert run(core.defer_unique_job, unique_job(until="end"), on_conflict="raise").taken is not None


@pytest.mark.parametrize("time", ["infinity", "20000-01-01", "-infinity", "4700-01-01 BC"])
def test_a_time_that_python_does_not_reach_keeps_no_job_from_its_key(
    run: SyncRun, engine: sa.Engine, time: str
) -> None:
    """Plain SQL stores such times."""
    (holder,) = run(core.defer_unique_job, unique_job(until="end"), on_conflict="raise").ids
    with engine.begin() as connection:
        update = "UPDATE procrastinate_uniques SET (taken_at, expires_at, start_by) = (odd, odd, odd)"
        connection.execute(sa.text(f"{update} FROM CAST(:odd AS timestamptz) AS odd"), {"odd": time})
    taken = run(core.defer_unique_job, unique_job(until="end"), on_conflict="raise").taken
    assert taken is not None
    assert taken.job_id == holder
    assert run(core.find_unique_key, "k") == taken


@pytest.mark.parametrize(("ahead", "is_free"), [("30 seconds", False), ("59 minutes", False), ("1 year", True)])
def test_a_clock_that_was_a_year_ahead_keeps_no_key_for_a_year(
    run: SyncRun, engine: sa.Engine, ahead: str, is_free: bool
) -> None:
    """Two statements that begin at about one time, and a clock that is a little wrong, share the period."""
    job = unique_job(until="period", period=3600.0)
    run(core.defer_unique_job, job, on_conflict="raise")
    with engine.begin() as connection:
        update = "UPDATE procrastinate_uniques SET taken_at = taken_at + by, expires_at = expires_at + by"
        connection.execute(sa.text(f"{update} FROM CAST(:ahead AS interval) AS by"), {"ahead": ahead})
    assert run(core.sweep_unique_keys).deleted == is_free
    assert (run(core.defer_unique_job, job, on_conflict="raise").taken is None) == is_free


def test_a_sweep_frees_the_key_of_a_job_whose_id_plain_sql_has_stored(run: SyncRun, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO procrastinate_uniques (key, job_id, until, taken_at) VALUES ('odd', -3, 'end', now())"
        )
    assert run(core.sweep_unique_keys).deleted == 1
