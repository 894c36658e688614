"""``connection=``: a job belongs to the user's transaction, for every kind of connection."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psycopg
import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import procrastinate
from procrastinate import core, exceptions
from procrastinate.core import Status
from tests.database import driver_url, libpq_url
from tests.standalone.operations import defer_one_and_sleep, defer_two_and_fail
from tests.standalone.user_connections import (
    ASYNC_KINDS,
    ASYNC_SCOPED_SESSION,
    SCOPED_SESSION,
    SYNC_KINDS,
    AsyncKind,
    SyncKind,
)
from tests.standalone.waiting import wait_until

TASK = "task"
NOWHERE = "postgresql+psycopg://postgres@/db?host=/nowhere"


@pytest.fixture
def app(database_url: str) -> Iterator[procrastinate.App]:
    """Return an app that is not open, because it must need no connection of its own."""
    return procrastinate.App(connector=database_url)


@pytest.fixture(params=[*SYNC_KINDS, SCOPED_SESSION], ids=str)
def connection_(request: pytest.FixtureRequest, database_url: str) -> Iterator[Any]:
    """Return an open connection of the user, of each kind."""
    kind: SyncKind = request.param
    with kind.open(database_url) as connection:
        yield connection


@pytest.fixture(params=[*ASYNC_KINDS, ASYNC_SCOPED_SESSION], ids=str)
async def async_connection(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Any]:
    """Like ``connection_``, but asynchronous."""
    kind: AsyncKind = request.param
    async with kind.open(database_url) as connection:
        yield connection


Count = Callable[[], int]


def test_a_job_appears_with_the_commit(app: procrastinate.App, connection_: Any, count_jobs: Count) -> None:
    """Before the commit, other sessions do not see the job."""
    app.configure_task(TASK, connection=connection_).defer(a=1)
    assert count_jobs() == 0
    connection_.commit()
    assert count_jobs() == 1


def test_a_job_vanishes_with_the_rollback(app: procrastinate.App, connection_: Any, count_jobs: Count) -> None:
    """The rollback undoes the job together with the user's own changes."""
    app.configure_task(TASK, connection=connection_).batch_defer({"a": 1}, {"a": 2})
    connection_.rollback()
    assert count_jobs() == 0


def test_a_taken_queueing_lock_leaves_the_transaction_usable(
    app: procrastinate.App, connection_: Any, count_jobs: Count
) -> None:
    """This holds for one job and for several."""
    deferrer = app.configure_task(TASK, connection=connection_, queueing_lock="lock")
    deferrer.defer()
    with pytest.raises(exceptions.AlreadyEnqueued, match="lock"):
        deferrer.defer()
    with pytest.raises(exceptions.AlreadyEnqueued, match="lock"):
        deferrer.batch_defer({"a": 1}, {"a": 2})
    app.configure_task(TASK, connection=connection_).defer()
    connection_.commit()
    assert count_jobs() == 2


def test_a_waiting_job_is_skipped_or_replaced_in_the_transaction(
    app: procrastinate.App, connection_: Any, count_jobs: Count
) -> None:
    """This holds for one job and for several."""
    first = app.configure_task(TASK, connection=connection_, queueing_lock="lock").defer(a=1)
    skipping = app.configure_task(TASK, connection=connection_, queueing_lock="lock", on_conflict="skip")
    assert skipping.defer(a=2) == first
    assert skipping.batch_defer({"a": 3}, {"a": 4}) == [first, first]
    replacing = app.configure_task(TASK, connection=connection_, queueing_lock="lock", on_conflict="replace")
    assert replacing.defer(a=5) == first
    assert replacing.batch_defer({"a": 6}, {"a": 7}) == [first, first]
    (job,) = app.job_manager.list_jobs(connection=connection_)
    assert job.task_kwargs == {"a": 7}
    connection_.commit()
    assert count_jobs() == 1


def test_other_calls_see_what_the_transaction_did(app: procrastinate.App, connection_: Any) -> None:
    """An uncommitted job can be read and cancelled in its transaction."""
    manager = app.job_manager
    job_id = app.configure_task(TASK, connection=connection_).defer()
    assert manager.get_job_status(job_id, connection=connection_).value == "todo"
    assert manager.cancel_job_by_id(job_id, connection=connection_)
    assert [job.status for job in manager.list_jobs(connection=connection_)] == ["cancelled"]


async def test_a_job_appears_with_the_async_commit(
    app: procrastinate.App, async_connection: Any, count_jobs: Count
) -> None:
    """Before the commit, other sessions do not see the job."""
    await app.configure_task(TASK, connection=async_connection).defer_async(a=1)
    assert count_jobs() == 0
    await async_connection.commit()
    assert count_jobs() == 1


async def test_a_job_vanishes_with_the_async_rollback(
    app: procrastinate.App, async_connection: Any, count_jobs: Count
) -> None:
    """The rollback undoes the job together with the user's own changes."""
    await app.configure_task(TASK, connection=async_connection).batch_defer_async({"a": 1}, {"a": 2})
    await async_connection.rollback()
    assert count_jobs() == 0


async def test_a_taken_queueing_lock_leaves_the_async_transaction_usable(
    app: procrastinate.App, async_connection: Any, count_jobs: Count
) -> None:
    """This holds for one job and for several."""
    deferrer = app.configure_task(TASK, connection=async_connection, queueing_lock="lock")
    await deferrer.defer_async()
    with pytest.raises(exceptions.AlreadyEnqueued, match="lock"):
        await deferrer.defer_async()
    with pytest.raises(exceptions.AlreadyEnqueued, match="lock"):
        await deferrer.batch_defer_async({"a": 1}, {"a": 2})
    await app.configure_task(TASK, connection=async_connection).defer_async()
    await async_connection.commit()
    assert count_jobs() == 2


async def test_a_waiting_job_is_skipped_or_replaced_in_the_async_transaction(
    app: procrastinate.App, async_connection: Any, count_jobs: Count
) -> None:
    """This holds for one job and for several."""
    first = await app.configure_task(TASK, connection=async_connection, queueing_lock="lock").defer_async(a=1)
    skipping = app.configure_task(TASK, connection=async_connection, queueing_lock="lock", on_conflict="skip")
    assert await skipping.defer_async(a=2) == first
    assert await skipping.batch_defer_async({"a": 3}, {"a": 4}) == [first, first]
    replacing = app.configure_task(TASK, connection=async_connection, queueing_lock="lock", on_conflict="replace")
    assert await replacing.defer_async(a=5) == first
    assert await replacing.batch_defer_async({"a": 6}, {"a": 7}) == [first, first]
    await async_connection.commit()
    assert count_jobs() == 1


async def test_async_code_may_use_a_sync_connection(
    app: procrastinate.App, connection_: Any, count_jobs: Count
) -> None:
    """A thread uses the connection, and the event loop is not blocked."""
    await app.configure_task(TASK, connection=connection_).defer_async()
    await app.configure_task(TASK, connection=connection_).batch_defer_async({"a": 1}, {"a": 2})
    assert count_jobs() == 0
    connection_.commit()
    assert count_jobs() == 3


async def test_the_loop_goes_on_while_a_sync_connection_waits(
    app: procrastinate.App, database_url: str, count_jobs: Count
) -> None:
    """Two transactions of one loop that want the same queueing lock do not deadlock."""
    with psycopg.connect(libpq_url(database_url)) as first, psycopg.connect(libpq_url(database_url)) as second:
        await app.configure_task(TASK, connection=first, queueing_lock="lock").defer_async()
        waiting = asyncio.create_task(app.configure_task(TASK, connection=second, queueing_lock="lock").defer_async())
        await asyncio.sleep(0)
        first.rollback()
        assert await asyncio.wait_for(waiting, 10)
    assert count_jobs() == 1


def test_a_sync_call_refuses_an_async_connection(app: procrastinate.App, database_url: str) -> None:
    """The error names the method to call."""
    connection = create_async_engine(database_url).connect()
    with pytest.raises(TypeError, match="_async"):
        app.configure_task(TASK, connection=connection).defer()


@pytest.mark.parametrize("wrong", [object(), "postgresql:///db", sa.create_engine("postgresql+psycopg:///db")])
async def test_what_is_no_connection_is_refused(app: procrastinate.App, wrong: Any) -> None:
    """The error names its type."""
    with pytest.raises(TypeError, match=type(wrong).__name__):
        app.configure_task(TASK, connection=wrong).defer()
    with pytest.raises(TypeError, match=type(wrong).__name__):
        await app.configure_task(TASK, connection=wrong).defer_async()


def test_a_connection_to_another_kind_of_database_is_refused(app: procrastinate.App) -> None:
    """No worker would find a job there."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(TypeError, match="sqlite"):
        app.configure_task(TASK, connection=connection).defer()
    engine.dispose()


# Connections in autocommit: an operation of several statements needs a transaction


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_in_autocommit_an_atomic_operation_has_a_transaction(
    app: procrastinate.App, database_url: str, driver: str, count_jobs: Count
) -> None:
    """This covers SQLAlchemy's connections."""
    engine = sa.create_engine(driver_url(database_url, driver), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        with pytest.raises(ZeroDivisionError):
            app.connector.run_on(connection, defer_two_and_fail)
        assert count_jobs() == 0
        app.configure_task(TASK, connection=connection).batch_defer({"a": 1}, {"a": 2})
        assert count_jobs() == 2
    engine.dispose()


async def test_in_async_autocommit_an_atomic_operation_has_a_transaction(
    app: procrastinate.App, database_url: str, count_jobs: Count
) -> None:
    """This covers connections of asyncpg and psycopg."""
    for driver in ("asyncpg", "psycopg"):
        engine = create_async_engine(driver_url(database_url, driver), isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            with pytest.raises(ZeroDivisionError):
                await app.connector.run_on_async(connection, defer_two_and_fail)
        await engine.dispose()
        assert count_jobs() == 0


def test_a_raw_connection_in_autocommit_gets_a_transaction(
    app: procrastinate.App, database_url: str, count_jobs: Count
) -> None:
    """This covers connections of psycopg and psycopg2."""
    raw2 = psycopg2.connect(libpq_url(database_url))
    raw2.autocommit = True
    with psycopg.connect(libpq_url(database_url), autocommit=True) as raw:
        for connection in (raw, raw2):
            with pytest.raises(ZeroDivisionError):
                app.connector.run_on(connection, defer_two_and_fail)
            assert count_jobs() == 0
    raw2.close()


def wait_until_asleep(connection: sa.Connection, backend: int) -> None:
    """Wait until the server process of a connection runs ``pg_sleep``."""
    look = sa.text("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = :pid")
    wait_until(lambda: bool(connection.execute(look, {"pid": backend}).scalar_one()), "Sleep")


async def test_a_cancelled_operation_leaves_no_transaction_open_on_a_raw_connection_in_autocommit(
    app: procrastinate.App, database_url: str, connection: sa.Connection, count_jobs: Count
) -> None:
    """The operation opened the transaction, so it must also end it."""
    async with await psycopg.AsyncConnection.connect(libpq_url(database_url), autocommit=True) as raw:
        running = asyncio.create_task(app.connector.run_on_async(raw, defer_one_and_sleep))
        await asyncio.to_thread(wait_until_asleep, connection, raw.info.backend_pid)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert count_jobs() == 0
        await app.configure_task(TASK, connection=raw).defer_async()
        assert count_jobs() == 1


async def test_a_cancelled_operation_on_a_connection_in_autocommit_says_that_it_was_cancelled(
    app: procrastinate.App, database_url: str, connection: sa.Connection
) -> None:
    """An error about the connection instead would hide the cancellation from ``asyncio.timeout()``."""
    engine = create_async_engine(driver_url(database_url, "psycopg"), isolation_level="AUTOCOMMIT")
    async with engine.connect() as own:
        backend = (await own.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
        running = asyncio.create_task(app.connector.run_on_async(own, defer_one_and_sleep))
        await asyncio.to_thread(wait_until_asleep, connection, backend)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    await engine.dispose()


@pytest.mark.parametrize("connect", [psycopg.connect, psycopg2.connect], ids=["psycopg", "psycopg2"])
async def test_a_raw_connection_in_autocommit_that_is_lost_in_an_operation_is_an_error_of_the_database(
    app: procrastinate.App, database_url: str, connection: sa.Connection, connect: Callable[[str], Any]
) -> None:
    with contextlib.closing(connect(libpq_url(database_url))) as raw:
        raw.autocommit = True
        backend = raw.info.backend_pid
        running = asyncio.create_task(asyncio.to_thread(app.connector.run_on, raw, defer_one_and_sleep))
        await asyncio.to_thread(wait_until_asleep, connection, backend)
        connection.execute(sa.select(sa.func.pg_terminate_backend(backend)))
        with pytest.raises(exceptions.DatabaseUnavailable):
            await running


def test_a_transaction_begun_by_hand_is_not_committed(
    app: procrastinate.App, database_url: str, count_jobs: Count
) -> None:
    """The owner ends psycopg's ``transaction()`` on a connection in autocommit."""
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        with connection.transaction(force_rollback=True):
            with pytest.raises(ZeroDivisionError):
                app.connector.run_on(connection, defer_two_and_fail)
            app.configure_task(TASK, connection=connection, queueing_lock="a").defer()
        assert count_jobs() == 0


async def test_a_transaction_begun_by_hand_is_not_committed_async(
    app: procrastinate.App, database_url: str, count_jobs: Count
) -> None:
    """The asynchronous case of the test above."""
    async with await psycopg.AsyncConnection.connect(libpq_url(database_url), autocommit=True) as connection:
        async with connection.transaction(force_rollback=True):
            with pytest.raises(ZeroDivisionError):
                await app.connector.run_on_async(connection, defer_two_and_fail)
            await app.configure_task(TASK, connection=connection).defer_async()
        assert count_jobs() == 0


def test_the_users_connection_keeps_its_settings(app: procrastinate.App, database_url: str) -> None:
    """Row factory and autocommit stay, and the defer is the only statement."""
    with psycopg.connect(libpq_url(database_url), row_factory=psycopg.rows.dict_row) as connection:
        app.configure_task(TASK, connection=connection).defer()
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        row = connection.execute("SELECT args FROM procrastinate_jobs").fetchone()
        assert row == {"args": {}}
        assert not connection.autocommit


def test_a_closed_connection_is_an_error_of_the_database(app: procrastinate.App, database_url: str) -> None:
    """The driver's error is passed on as a database error."""
    connection = psycopg.connect(libpq_url(database_url))
    connection.close()
    with pytest.raises(exceptions.ConnectorException, match="closed"):
        app.configure_task(TASK, connection=connection).defer()


def test_a_session_that_cannot_connect_is_an_error_of_the_database(app: procrastinate.App) -> None:
    """A session connects at its first statement, which may be the defer."""
    engine = sa.create_engine(NOWHERE)
    with Session(engine) as session, pytest.raises(exceptions.ConnectorException, match="nowhere"):
        app.configure_task(TASK, connection=session).defer()


async def test_an_async_session_that_cannot_connect_is_an_error_of_the_database(app: procrastinate.App) -> None:
    """The asynchronous case, and that of a sync session in async code."""
    async with AsyncSession(create_async_engine(NOWHERE)) as session:
        with pytest.raises(exceptions.ConnectorException, match="nowhere"):
            await app.configure_task(TASK, connection=session).defer_async()
    with Session(sa.create_engine(NOWHERE)) as sync_session, pytest.raises(exceptions.ConnectorException):
        await app.configure_task(TASK, connection=sync_session).defer_async()


def test_a_connection_in_an_odd_state_is_refused_with_the_reason(app: procrastinate.App, database_url: str) -> None:
    with psycopg.connect(libpq_url(database_url)) as connection:
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT 1 / 0")
        with pytest.raises(exceptions.ConnectorException, match="transaction is aborted"):
            app.configure_task(TASK, connection=connection).defer()
        connection.rollback()
    with pytest.raises(exceptions.DatabaseUnavailable, match="closed"):
        app.configure_task(TASK, connection=connection).defer()


def test_a_server_side_cursor_of_the_user_goes_on(app: procrastinate.App, database_url: str) -> None:
    with psycopg.connect(libpq_url(database_url)) as connection, connection.cursor("of_the_user") as cursor:
        cursor.execute("SELECT generate_series(1, 1000)")
        assert cursor.fetchone() == (1,)
        assert app.configure_task(TASK, connection=connection).defer()
        assert cursor.fetchone() == (2,)


def test_jobs_are_deferred_in_a_pipeline_whatever_the_statement(
    app: procrastinate.App, database_url: str, count_jobs: Count
) -> None:
    with psycopg.connect(libpq_url(database_url)) as connection, connection.pipeline():
        options = {"connection": connection, "queueing_lock": "lock", "on_conflict": "skip"}
        job_id = app.configure_task(TASK, **options).defer()
        assert app.configure_task(TASK, **options).batch_defer({}, {}) == [job_id, job_id]
        assert count_jobs() == 0
    assert count_jobs() == 1


async def test_jobs_are_deferred_in_an_asynchronous_pipeline(
    app: procrastinate.App, database_url: str, count_jobs: Count
) -> None:
    async with await psycopg.AsyncConnection.connect(libpq_url(database_url)) as connection, connection.pipeline():
        options = {"connection": connection, "queueing_lock": "lock", "on_conflict": "skip"}
        job_id = await app.configure_task(TASK, **options).defer_async()
        assert await app.configure_task(TASK, **options).batch_defer_async({}, {}) == [job_id, job_id]
    assert count_jobs() == 1


def test_a_connection_of_sqlalchemys_in_a_pipeline_is_refused_before_anything_is_sent(
    app: procrastinate.App, database_url: str, count_jobs: Count
) -> None:
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        driver_connection: Any = connection.connection.driver_connection
        with driver_connection.pipeline(), pytest.raises(TypeError, match="pipeline"):
            app.configure_task(TASK, connection=connection).defer()
        connection.commit()
    engine.dispose()
    assert count_jobs() == 0


def test_what_a_program_tells_psycopg2_of_all_its_connections_changes_no_job(
    app: procrastinate.App, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from psycopg2 import extensions, extras

    monkeypatch.setitem(extensions.adapters, (list, extensions.ISQLQuote), extras.Json)
    before = dict(extensions.string_types)
    odd = extensions.new_type((20, 23, 25, 1043, 1184, 16), "ODD", lambda value, cursor: "odd")
    extensions.register_type(odd)
    try:
        connection = psycopg2.connect(libpq_url(database_url))
        options = {"connection": connection, "queueing_lock": "lock", "on_conflict": "skip"}
        [first, second] = app.configure_task(TASK, **options).batch_defer({}, {})
        assert first == second
        assert isinstance(first, int)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == ("odd",)
        connection.close()
    finally:
        extensions.string_types.update(before)


AT = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)


def _times(database_url: str) -> set[datetime.datetime]:
    with psycopg.connect(libpq_url(database_url)) as connection:
        return {at for (at,) in connection.execute("SELECT scheduled_at FROM procrastinate_jobs")}


@pytest.mark.parametrize("lends", [True, False], ids=["a lent connection", "an engine"])
def test_what_a_program_tells_psycopg2_of_times_changes_no_schedule(
    database_url: str, count_jobs: Count, monkeypatch: pytest.MonkeyPatch, lends: bool
) -> None:
    """As a program does that stores local times in columns without a zone."""
    from psycopg2 import extensions

    def write(at: datetime.datetime) -> Any:
        return extensions.AsIs(f"'{at.replace(tzinfo=None).isoformat()}'::timestamp + interval '9 hours'")

    monkeypatch.setitem(extensions.adapters, (datetime.datetime, extensions.ISQLQuote), write)
    app = procrastinate.App(connector=driver_url(database_url, "psycopg2"))
    with app.open(), psycopg2.connect(libpq_url(database_url)) as connection:
        options: dict[str, Any] = {"connection": connection} if lends else {}
        deferrer = app.configure_task(TASK, schedule_at=AT, **options)
        deferrer.batch_defer({}, {})
        job_id = deferrer.defer()
        connection.commit()
        app.connector.run(core.finish_job_by_id, job_id, status=Status.FAILED, delete=False)
        app.job_manager.retry_job_by_id(job_id, AT)
        app.queues.pause("default", until=AT)
        assert [pause.until for pause in app.queues.list()] == [AT]
    connection.close()
    assert (_times(database_url), count_jobs()) == ({AT}, 3)


async def test_what_a_program_tells_asyncpg_of_times_changes_no_schedule(database_url: str, count_jobs: Count) -> None:
    engine = create_async_engine(driver_url(database_url, "asyncpg"))

    @sa.event.listens_for(engine.sync_engine, "connect")
    def keep_times_as_numbers(connection: Any, _: Any) -> None:
        async def use(driver: Any) -> None:
            await driver.set_type_codec(
                "timestamptz", encoder=lambda seconds: f"{seconds:d}", decoder=str, schema="pg_catalog", format="text"
            )

        connection.run_async(use)

    app = procrastinate.App(connector=engine)
    async with app.open_async():
        deferrer = app.configure_task(TASK, schedule_at=AT)
        await deferrer.batch_defer_async({}, {})
        job_id = await deferrer.defer_async()
        await app.connector.run_async(core.finish_job_by_id, job_id, status=Status.FAILED, delete=False)
        await app.job_manager.retry_job_by_id_async(job_id, AT)
        await app.queues.pause_async("default", until=AT)
    await engine.dispose()
    assert (_times(database_url), count_jobs()) == ({AT}, 3)
