"""The worker's connector: its connections, its transactions, and lost connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.adapters.connections.conninfo import connection_parameters, elsewhere
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.adapters.standalone import PsycopgConnector, SQLAlchemyConnector
from tests.database import libpq_url
from tests.standalone.operations import (
    atomic_is_in_transaction,
    backend_pid,
    defer_two_and_fail,
    is_in_transaction,
)
from tests.standalone.waiting import wait_until


def _psycopg_connector(conninfo: str, **arguments: Any) -> PsycopgConnector:
    return PsycopgConnector(conninfo=conninfo, **arguments)


@pytest.fixture
async def connector(database_url: str) -> AsyncIterator[WorkerConnector]:
    """Return an open connector."""
    connector = WorkerConnector(libpq_url(database_url))
    await connector.open_async()
    yield connector
    await connector.close_async()


async def test_one_statement_runs_in_autocommit(connector: WorkerConnector) -> None:
    """This saves the round trips of a transaction."""
    assert not await connector.run_async(is_in_transaction)
    assert not connector.run(is_in_transaction)


async def test_an_atomic_operation_has_a_transaction(connector: WorkerConnector) -> None:
    """The next operation on the same connection has no transaction."""
    for _ in range(2):
        assert await connector.run_async(atomic_is_in_transaction)
        assert connector.run(atomic_is_in_transaction)
        assert not await connector.run_async(is_in_transaction)
        assert not connector.run(is_in_transaction)


async def test_an_atomic_operation_that_fails_leaves_nothing(
    connector: WorkerConnector, count_jobs: Callable[[], int]
) -> None:
    """This holds for sync and async code."""
    with pytest.raises(ZeroDivisionError):
        connector.run(defer_two_and_fail)
    with pytest.raises(ZeroDivisionError):
        await connector.run_async(defer_two_and_fail)
    assert count_jobs() == 0


async def test_a_workers_connector_has_four_connections_at_most(
    connector: WorkerConnector, count_connections: Callable[[], int]
) -> None:
    """Two connections are for the event loop, one for threads, and one for listening."""
    before = count_connections()
    listening = asyncio.Event()
    listener = asyncio.create_task(connector.listen_notify(_ignore, ["channel"], listening.set))
    await listening.wait()
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(connector.run_async(backend_pid))
            group.create_task(asyncio.to_thread(connector.run, backend_pid))

    assert count_connections() - before == 4

    listener.cancel()
    await asyncio.wait([listener])
    await connector.close_async()
    wait_until(lambda: count_connections() == before, "the end of the connections")


async def test_connections_lost_while_idle_are_replaced_before_use(
    connector: WorkerConnector, end_connections: Callable[[], int]
) -> None:
    """Callers see no error after a restart of the server."""
    before = {await connector.run_async(backend_pid), connector.run(backend_pid)}

    assert end_connections() >= 2

    assert not {await connector.run_async(backend_pid), connector.run(backend_pid)} & before


async def test_a_connection_lost_in_a_statement_is_an_error_and_then_replaced(
    connector: WorkerConnector, end_connections: Callable[[], int], connection: sa.Connection
) -> None:
    """The operation raises `DatabaseUnavailable`, and the next one works."""

    def sleep(connection: sa.Connection) -> None:
        connection.execute(sa.text("SELECT pg_sleep(60)"))

    sleeping = asyncio.create_task(connector.run_async(sleep))
    asleep = sa.text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'")
    await asyncio.to_thread(wait_until, lambda: connection.execute(asleep).scalar_one() == 1, "the statement")

    end_connections()

    with pytest.raises(exceptions.DatabaseUnavailable):
        await sleeping
    assert await connector.run_async(backend_pid)


async def test_a_workers_connector_must_be_open(database_url: str) -> None:
    """Operations fail before it is opened and after it is closed."""
    connector = WorkerConnector(libpq_url(database_url))
    for _ in range(2):
        with pytest.raises(exceptions.AppNotOpen):
            connector.run(backend_pid)
        with pytest.raises(exceptions.AppNotOpen):
            await connector.run_async(backend_pid)
        with pytest.raises(exceptions.AppNotOpen):
            await connector.listen_notify(_ignore, ["channel"])
        await connector.open_async()
        await connector.close_async()


async def test_a_workers_connector_takes_no_engine(connector: WorkerConnector, engine: sa.Engine) -> None:
    """A worker opens its own connections."""
    with pytest.raises(TypeError, match="its own engines"):
        await connector.open_async(engine)


def test_the_repr_of_a_workers_connector_has_no_secrets() -> None:
    """The repr shows only the address."""
    connector = WorkerConnector({"conninfo": "host=db user=me password=hunter2", "sslkey": "k", "options": "-c a=b"})
    assert repr(connector) == "WorkerConnector(host='db', user='me')"


async def test_a_database_that_is_down_is_unavailable() -> None:
    """The message contains the address but not the password."""
    connector = WorkerConnector({"host": "/nowhere", "password": "hunter2", "dbname": "none"})
    await connector.open_async()
    with pytest.raises(exceptions.DatabaseUnavailable, match="/nowhere") as error:
        await connector.run_async(backend_pid)
    with pytest.raises(exceptions.DatabaseUnavailable, match="/nowhere"):
        connector.run(backend_pid)
    with pytest.raises(exceptions.DatabaseUnavailable, match="/nowhere"):
        await connector.listen_notify(_ignore, ["channel"])
    assert "hunter2" not in str(error.value)
    await connector.close_async()


async def _ignore(*, channel: str, payload: str) -> None: ...


@pytest.mark.parametrize(
    ("differs", "leads_to"),
    [
        ("host=db port=5432", {"host": "db", "port": "5432", "dbname": "jobs", "password": "hunter2"}),
        ({"host": "db"}, {"host": "db", "dbname": "jobs", "password": "hunter2"}),
        ({"port": 5432}, {"host": "pooler", "port": 5432, "dbname": "jobs", "password": "hunter2"}),
        ("postgresql://me:other@db/direct", {"host": "db", "dbname": "direct", "user": "me", "password": "other"}),
    ],
)
def test_the_way_past_a_pooler_names_what_differs(differs: Any, leads_to: dict[str, Any]) -> None:
    """A different host needs its own port or gets the default. User, password and database stay the same."""
    pooled = connection_parameters("host=pooler port=6432 dbname=jobs password=hunter2")
    assert elsewhere(pooled, differs) == leads_to


@pytest.mark.parametrize(
    ("differs", "error", "message"),
    [
        ({"hots": "db"}, TypeError, "'hots' is neither an argument of psycopg.connect"),
        ("", ValueError, "name at least the parameters that differ"),
        ("host=db password=hunter2 sslmode", ValueError, "cannot be read"),
        (["host=db password=hunter2"], TypeError, "not list"),
    ],
)
@pytest.mark.parametrize("make", [WorkerConnector, SQLAlchemyConnector, _psycopg_connector])
def test_a_way_past_a_pooler_that_is_none_is_refused_at_once(
    make: Callable[..., Any], differs: Any, error: type[Exception], message: str
) -> None:
    """The error comes before a worker starts, and does not repeat a password."""
    with pytest.raises(error, match=message) as raised:
        make("postgresql://pooler:6432/jobs", listen_connect_args=differs)
    assert "hunter2" not in str(raised.value)


async def test_a_connector_of_a_connector_listens_as_the_first(database_url: str, connection: sa.Connection) -> None:
    """An app may use a worker's connector."""
    first = WorkerConnector(libpq_url(database_url), listen_connect_args={"application_name": "past the pooler"})
    second = first.get_worker_connector()
    await second.open_async()
    listening = asyncio.Event()
    listener = asyncio.create_task(second.listen_notify(_ignore, ["channel"], listening.set))
    await listening.wait()
    names = sa.text("SELECT application_name FROM pg_stat_activity WHERE query = 'LISTEN \"channel\"'")
    assert connection.execute(names).scalars().all() == ["past the pooler"]
    listener.cancel()
    await asyncio.wait([listener])
    await second.close_async()
