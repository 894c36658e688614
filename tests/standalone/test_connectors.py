"""The connectors of a URL and of an engine: opening, running operations, closing."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import psycopg_pool
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from procrastinate import PsycopgConnector, SyncPsycopgConnector, core, exceptions
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.adapters.standalone import SQLAlchemyConnector
from procrastinate.adapters.standalone.engine_connector import EngineConnector
from procrastinate.connector import as_connector
from tests.database import driver_url, libpq_url, new_job
from tests.standalone.operations import (
    atomic_is_in_transaction,
    backend_pid,
    defer_one,
    defer_two_and_fail,
    is_in_transaction,
)
from tests.standalone.waiting import wait_until

Make = Callable[[str], EngineConnector]

DRIVERS = ("psycopg", "psycopg2", "pg8000", "asyncpg")
MAKERS: dict[str, Make] = {
    **{driver: lambda url, driver=driver: SQLAlchemyConnector(driver_url(url, driver)) for driver in DRIVERS},  # type: ignore[misc]
    "libpq URL": lambda url: SQLAlchemyConnector(libpq_url(url)),
    "sa.URL": lambda url: SQLAlchemyConnector(sa.make_url(url)),
    "PsycopgConnector": lambda url: PsycopgConnector(conninfo=libpq_url(url)),
    "SyncPsycopgConnector": lambda url: SyncPsycopgConnector(conninfo=libpq_url(url)),
    "psycopg_pool": lambda url: PsycopgConnector(
        conninfo=libpq_url(url), pool_factory=psycopg_pool.AsyncConnectionPool, min_size=1
    ),
    "null pool": lambda url: PsycopgConnector(
        conninfo=libpq_url(url), pool_factory=psycopg_pool.AsyncNullConnectionPool, max_size=2
    ),
}


@pytest.fixture(params=MAKERS)
async def connector(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[EngineConnector]:
    """Return an open connector of each kind."""
    connector = MAKERS[request.param](database_url)
    await connector.open_async()
    yield connector
    await connector.close_async()


async def test_operations_run_from_sync_and_from_async_code(connector: EngineConnector) -> None:
    """Every driver works. For code of the other kind, sync or async, psycopg replaces it."""
    assert connector.run(defer_one)
    assert await connector.run_async(defer_one)


async def test_atomic_operations_happen_together_or_not_at_all(
    connector: EngineConnector, count_jobs: Callable[[], int]
) -> None:
    """This holds for each kind of connector."""
    assert connector.run(atomic_is_in_transaction)
    assert await connector.run_async(atomic_is_in_transaction)
    with pytest.raises(ZeroDivisionError):
        connector.run(defer_two_and_fail)
    with pytest.raises(ZeroDivisionError):
        await connector.run_async(defer_two_and_fail)
    assert count_jobs() == 0


@pytest.mark.parametrize("driver", DRIVERS)
async def test_operations_of_one_statement_cost_no_transaction(database_url: str, driver: str) -> None:
    """Operations of one statement run in autocommit."""
    connector = SQLAlchemyConnector(driver_url(database_url, driver))
    await connector.open_async()
    assert not connector.run(is_in_transaction)
    assert not await connector.run_async(is_in_transaction)
    await connector.close_async()


async def test_half_a_character_is_an_error_of_the_database_for_each_driver(connector: EngineConnector) -> None:
    def ask(connection: sa.Connection) -> None:
        connection.execute(sa.select(sa.literal("\ud800")))

    with pytest.raises(exceptions.ConnectorException):
        await connector.run_async(ask)
    with pytest.raises(exceptions.ConnectorException):
        connector.get_sync_connector().run(ask)


async def test_a_worker_reaches_the_same_database(connector: EngineConnector, engine: sa.Engine) -> None:
    """The worker uses psycopg, whatever the driver."""
    worker = connector.get_worker_connector()
    assert isinstance(worker, WorkerConnector)
    await worker.open_async()
    name = await worker.run_async(lambda connection: connection.execute(sa.text("SELECT current_database()")).scalar())
    assert name == engine.url.database
    await worker.close_async()


async def test_a_connector_listens_on_a_connection_made_for_it(connector: EngineConnector) -> None:
    """Listening uses its own connection."""
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    listening = asyncio.Event()

    async def hear(*, channel: str, payload: str) -> None:
        heard.put_nowait((channel, payload))

    listener = asyncio.create_task(connector.listen_notify(hear, ["channel"], listening.set))
    await asyncio.wait_for(listening.wait(), 10)
    connector.run(lambda connection: connection.execute(sa.select(sa.func.pg_notify("channel", "payload"))).all())
    assert await asyncio.wait_for(heard.get(), 10) == ("channel", "payload")
    listener.cancel()
    await asyncio.wait([listener])


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
async def test_connections_lost_while_idle_are_replaced_before_use(
    database_url: str, driver: str, end_connections: Callable[[], int]
) -> None:
    """Callers see no error after a restart of the server."""
    connector = SQLAlchemyConnector(driver_url(database_url, driver))
    await connector.open_async()
    connector.run(backend_pid)
    await connector.run_async(backend_pid)

    assert await asyncio.to_thread(end_connections) >= 2

    connector.run(backend_pid)
    await connector.run_async(backend_pid)
    await connector.close_async()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_defer_that_is_cancelled_leaves_no_connection_that_is_busy(
    database_url: str, engine: sa.Engine, driver: str, times: int
) -> None:
    """The connection's state is unknown, so it is closed, and the next operation uses another one."""
    connector = SQLAlchemyConnector(driver_url(database_url, driver))
    await connector.open_async()
    before = await connector.run_async(backend_pid)
    with psycopg.connect(libpq_url(database_url)) as blocker:
        blocker.execute("LOCK TABLE procrastinate_jobs")
        deferring = asyncio.create_task(connector.run_async(defer_one))
        await asyncio.to_thread(wait_until, lambda: _waits_for_a_lock(engine, before), "the defer")
        for _ in range(times):
            deferring.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await deferring
    assert await connector.run_async(backend_pid) != before
    assert await connector.run_async(defer_one)
    await asyncio.to_thread(wait_until, lambda: not _is_connected(engine, before), "the end of the connection")
    await connector.close_async()


def _waits_for_a_lock(engine: sa.Engine, pid: int) -> bool:
    waits = sa.text("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = :pid")
    with engine.connect() as connection:
        return bool(connection.execute(waits, {"pid": pid}).scalar())


def _is_connected(engine: sa.Engine, pid: int) -> bool:
    with engine.connect() as connection:
        return bool(connection.execute(sa.text("SELECT 1 FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid}).all())


async def test_no_operation_leaves_its_transaction_to_the_next(connector: EngineConnector, engine: sa.Engine) -> None:
    """This holds for plain and atomic operations, with and without an error."""
    broken = sa.text("SELECT 1/0")
    for leave in (defer_one, defer_two_and_fail, lambda connection: connection.execute(broken), is_in_transaction):
        with contextlib.suppress(ZeroDivisionError, exceptions.ConnectorException):
            connector.run(leave)
        with contextlib.suppress(ZeroDivisionError, exceptions.ConnectorException):
            await connector.run_async(leave)
        with engine.connect() as observer:
            now = observer.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
        assert connector.run(_transaction_start) > now
        assert await connector.run_async(_transaction_start) > now


def _transaction_start(connection: sa.Connection) -> datetime.datetime:
    start: datetime.datetime = connection.execute(sa.text("SELECT now()")).scalar_one()
    return start


async def test_a_connector_must_be_open(database_url: str) -> None:
    """Sync code works after `open()` or `open_async()`, and async code only after `open_async()`."""
    connector = SQLAlchemyConnector(database_url)
    with pytest.raises(exceptions.AppNotOpen):
        connector.run(backend_pid)
    connector.open()
    assert connector.run(backend_pid)
    with pytest.raises(exceptions.AppNotOpen, match="event loop"):
        await connector.run_async(backend_pid)
    with pytest.raises(exceptions.AppNotOpen, match="event loop"):
        await connector.listen_notify(_ignore, ["channel"])
    connector.close()
    with pytest.raises(exceptions.AppNotOpen):
        connector.run(backend_pid)


async def test_opening_makes_no_connection() -> None:
    """A program starts while its database is down, and gets an error at its first operation."""
    connector = SQLAlchemyConnector("postgresql+psycopg://me:hunter2@/none?host=/nowhere")
    await connector.open_async()
    for call in (connector.run_async(backend_pid), asyncio.to_thread(connector.run, backend_pid)):
        with pytest.raises(exceptions.DatabaseUnavailable, match="/nowhere") as error:
            await call
        assert "hunter2" not in str(error.value)
    await connector.close_async()


async def test_closing_closes_connections(database_url: str, count_connections: Callable[[], int]) -> None:
    """Closing covers the connections of sync and of async code."""
    before = count_connections()
    connector = SQLAlchemyConnector(database_url)
    await connector.open_async()
    connector.run(backend_pid)
    await connector.run_async(backend_pid)
    assert count_connections() == before + 2
    await connector.close_async()
    wait_until(lambda: count_connections() == before, "the end of the connections")


async def test_closing_one_side_leaves_the_other_open(database_url: str) -> None:
    """A worker that runs in the program closes only what it opened."""
    connector = SQLAlchemyConnector(database_url)
    connector.open()
    await connector.open_async()
    await connector.close_async()
    assert connector.run(backend_pid)

    await connector.open_async()
    connector.close()
    assert connector.run(backend_pid)
    assert await connector.run_async(backend_pid)
    await connector.close_async()


async def test_each_event_loop_has_connections_of_its_own(database_url: str) -> None:
    """A worker in a thread does not use the connections of the program's event loop."""
    connector = SQLAlchemyConnector(database_url)
    await connector.open_async()
    mine = await connector.run_async(backend_pid)

    async def elsewhere() -> int:
        await connector.open_async()
        try:
            return await connector.run_async(backend_pid)
        finally:
            await connector.close_async()

    theirs = await asyncio.to_thread(asyncio.run, elsewhere())

    assert mine != theirs
    assert await connector.run_async(backend_pid) == mine
    await connector.close_async()


def test_a_forked_process_has_connections_of_its_own(database_url: str) -> None:
    """Two processes on one connection would read each other's answers."""
    program = [sys.executable, "-m", "tests.standalone.forking", database_url]
    subprocess.run(program, check=True, timeout=60)


# The user's engines


@pytest.fixture
async def async_engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Return the user's asynchronous engine."""
    engine = create_async_engine(driver_url(database_url, "asyncpg"))
    yield engine
    await engine.dispose()


async def test_an_engine_serves_sync_and_async_code(engine: sa.Engine, count_connections: Callable[[], int]) -> None:
    """The engine's own pool is the only one."""
    connector = as_connector(engine)
    await connector.open_async()
    before = count_connections()
    pid = connector.run(backend_pid)
    assert await connector.run_async(backend_pid) == pid
    assert count_connections() - before <= 1
    await connector.close_async()


async def test_an_async_engine_serves_both(async_engine: AsyncEngine) -> None:
    """Sync code gets an additional small psycopg engine."""
    connector = as_connector(async_engine)
    await connector.open_async()
    assert await connector.run_async(defer_one)
    assert connector.run(defer_one)
    await connector.close_async()


async def test_the_users_engine_stays_as_it_is(engine: sa.Engine, async_engine: AsyncEngine) -> None:
    """It keeps its isolation level and its connections when the connector is closed."""
    with engine.connect() as connection:
        pid = backend_pid(connection)
    async with async_engine.connect() as async_connection:
        async_pid = await async_connection.run_sync(backend_pid)
    for user_engine in (engine, async_engine):
        connector = as_connector(user_engine)
        await connector.open_async()
        connector.run(defer_one)
        await connector.run_async(defer_one)
        await connector.close_async()

    with engine.begin() as connection:
        assert backend_pid(connection) == pid
        assert is_in_transaction(connection)
    async with async_engine.begin() as async_connection:
        assert await async_connection.run_sync(backend_pid) == async_pid
        assert await async_connection.run_sync(is_in_transaction)


async def test_an_engine_in_autocommit_still_runs_atomic_operations_atomically(
    database_url: str, count_jobs: Callable[[], int]
) -> None:
    """``begin()`` alone would not open a transaction on it."""
    engine = sa.create_engine(database_url, isolation_level="AUTOCOMMIT")
    connector = as_connector(engine)
    connector.open()
    with pytest.raises(ZeroDivisionError):
        connector.run(defer_two_and_fail)
    assert count_jobs() == 0
    engine.dispose()


@pytest.mark.parametrize("options", [{}, {"isolation_level": "SERIALIZABLE"}], ids=["plain", "the user's level"])
def test_own_connections_are_in_autocommit_from_the_start(
    database_url: str, count_jobs: Callable[[], int], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Switching autocommit on and off for each operation took a quarter of a defer's CPU time."""
    connector = SQLAlchemyConnector(database_url, **options)
    connector.open()
    connector.run(defer_one)
    changes: list[bool] = []
    set_autocommit = psycopg.Connection.set_autocommit

    def note(connection: psycopg.Connection[Any], value: bool) -> None:
        changes.append(value)
        set_autocommit(connection, value)

    monkeypatch.setattr(psycopg.Connection, "set_autocommit", note)
    connector.run(defer_one)
    assert changes == []
    assert connector.run(atomic_is_in_transaction)
    assert not connector.run(is_in_transaction)
    connector.close()
    assert count_jobs() == 2


async def test_an_isolation_level_among_the_users_execution_options_loses_no_job(
    database_url: str, count_jobs: Callable[[], int]
) -> None:
    """This holds for our own engine and for the user's."""
    options: dict[str, Any] = {"execution_options": {"isolation_level": "READ COMMITTED"}}
    engine, async_engine = sa.create_engine(database_url, **options), create_async_engine(database_url, **options)
    connectors = [SQLAlchemyConnector(database_url, **options), as_connector(engine), as_connector(async_engine)]
    for connector in connectors:
        await connector.open_async()
        connector.run(defer_one)
        await connector.run_async(defer_one)
        await connector.close_async()
    engine.dispose()
    await async_engine.dispose()
    assert count_jobs() == 6


async def test_an_app_can_be_opened_with_an_engine_or_a_pool(
    database_url: str, engine: sa.Engine, async_engine: AsyncEngine
) -> None:
    """Closing the connector leaves the user's engine or pool open."""
    nowhere = "postgresql+psycopg://postgres@/none?host=/nowhere"
    with psycopg_pool.ConnectionPool(libpq_url(database_url), min_size=1, open=True) as pool:
        async with psycopg_pool.AsyncConnectionPool(libpq_url(database_url), min_size=1, open=False) as async_pool:
            for theirs in (engine, pool):
                connector = SQLAlchemyConnector(nowhere)
                connector.open(theirs)
                assert connector.run(atomic_is_in_transaction)
                connector.close()
            for theirs in (engine, pool, async_engine, async_pool):
                connector = SQLAlchemyConnector(nowhere)
                await connector.open_async(theirs)
                assert await connector.run_async(atomic_is_in_transaction)
                await connector.close_async()
            assert not pool.closed
            assert not async_pool.closed
    assert engine.connect().close() is None


async def test_what_is_neither_engine_nor_pool_is_refused(async_engine: AsyncEngine) -> None:
    """The error names the accepted types."""
    connector = SQLAlchemyConnector("postgresql+psycopg:///none")
    with pytest.raises(TypeError, match="use open_async"):
        connector.open(async_engine)
    with pytest.raises(TypeError, match="not dict"):
        connector.open({})
    with pytest.raises(TypeError, match="not dict"):
        await connector.open_async({})


@pytest.mark.parametrize(
    ("bind", "message"),
    [
        ("sqlite:///file", "PostgreSQL is needed"),
        ("mysql+asyncmy://me:hunter2@host/db", "PostgreSQL is needed"),
        ("postgresql+psycopg://me:hunter2@[::host/db", "cannot be read"),
        ("postgresql+psycopg://me:hunter2@host:port/db", "cannot be read"),
        ("postgresql://me:hunter2 x@host:port/db:1", "cannot be read"),
        ("hunter2", "cannot be read"),
        ("postgresql://me:hunter2/3@host/db", "percent-encoded"),
        ("postgresql+nope://me:hunter2@host/db", "knows no driver"),
        (sa.create_engine("sqlite://"), "PostgreSQL is needed"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_repeating_it(bind: Any, message: str) -> None:
    """The URL may contain a password."""
    with pytest.raises(ValueError, match=message) as error:
        as_connector(bind)
    assert "hunter2" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize("unset", ["", "  \n"])
def test_an_empty_url_is_refused_and_does_not_lead_to_the_database_of_the_user(unset: str, database_url: str) -> None:
    """An unset variable gives such a text. libpq would take it for the database of its defaults."""
    with pytest.raises(ValueError, match="Is a variable not set"):
        as_connector(unset)
    for given in (unset, lambda: unset):
        connector = SQLAlchemyConnector(database_url, worker_connect_args=given)
        with pytest.raises(ValueError, match="Is a variable not set"):
            connector._connect_args().ask()


def test_libpqs_own_defaults_have_a_url() -> None:
    assert as_connector("postgresql://").describe_database() == "the database of libpq's environment variables"


@pytest.mark.parametrize("bind", [None, 3, {"host": "db"}, object()])
def test_other_types_are_refused(bind: Any) -> None:
    """The error names the type."""
    with pytest.raises(TypeError, match=type(bind).__name__):
        as_connector(bind)


def test_options_of_an_engine_go_with_a_url_only(engine: sa.Engine) -> None:
    """An engine already has its options."""
    with pytest.raises(TypeError, match="pool_size"):
        SQLAlchemyConnector(engine, pool_size=3)


@pytest.mark.parametrize("driver", DRIVERS)
def test_no_repr_shows_a_password(driver: str) -> None:
    """This holds for a connector and for its worker connector."""
    connector = SQLAlchemyConnector(f"postgresql+{driver}://me:hunter2@db/name")
    for one in (
        connector,
        connector.get_worker_connector(),
        as_connector(sa.create_engine("postgresql+psycopg://a:hunter2@b/c")),
    ):
        assert "hunter2" not in repr(one)


def test_threads_share_one_engine(database_url: str, count_jobs: Callable[[], int]) -> None:
    """The first thread creates the engine."""
    connector = SQLAlchemyConnector(database_url)
    connector.open()
    threads = [threading.Thread(target=connector.run, args=(defer_one,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        connector.run(lambda connection: connection.execute(sa.text("SELECT max(id) FROM procrastinate_jobs")).scalar())
        == 20
    )
    connector.close()


async def _ignore(*, channel: str, payload: str) -> None: ...


def test_a_connection_that_is_lost_in_a_plain_statement_is_not_used_again(
    database_url: str, connection: sa.Connection
) -> None:
    """The pool has a single connection, which is replaced."""
    connector = SyncPsycopgConnector(conninfo=libpq_url(database_url), min_size=1, max_size=1)
    with contextlib.closing(connector):
        connector.open()
        backend = connector.run(lambda own: own.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())

        def cut_and_defer(own: sa.Connection) -> int | None:
            connection.exec_driver_sql(f"SELECT pg_terminate_backend({backend}, 30000)")
            return core.defer_job(own, new_job())

        with pytest.raises(exceptions.DatabaseUnavailable):
            connector.run(cut_and_defer)
        assert connector.run(core.defer_job, new_job()) is not None


def test_an_engine_that_is_to_say_what_it_does_says_all(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    connector = SQLAlchemyConnector(database_url, echo=True)
    with contextlib.closing(connector), caplog.at_level(logging.INFO, logger="sqlalchemy.engine"):
        connector.open()
        connector.run(core.defer_job, new_job())
    assert "INSERT INTO procrastinate_jobs" in caplog.text
