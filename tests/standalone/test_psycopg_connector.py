"""The arguments that PsycopgConnector and SyncPsycopgConnector had in 3.x."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate import PsycopgConnector, SyncPsycopgConnector
from procrastinate.adapters.connections.conninfo import connection_parameters
from procrastinate.adapters.standalone import SQLAlchemyConnector
from procrastinate.contrib.aiopg import AiopgConnector
from procrastinate.contrib.psycopg2 import Psycopg2Connector
from procrastinate.contrib.sqlalchemy import SQLAlchemyPsycopg2Connector
from tests.database import driver_url, libpq_url
from tests.standalone.operations import backend_pid


def _parameters(url: str) -> dict[str, Any]:
    return connection_parameters(libpq_url(url))


@pytest.mark.parametrize("connector_class", [PsycopgConnector, SyncPsycopgConnector])
@pytest.mark.parametrize(
    "arguments",
    [
        lambda url: {"conninfo": libpq_url(url)},
        lambda url: {"kwargs": _parameters(url)},
        lambda url: {"kwargs": {"conninfo": libpq_url(url)}},
        _parameters,
        lambda url: {"conninfo": "host=/nowhere", "kwargs": _parameters(url), "min_size": 1, "max_size": 2},
        lambda url: _parameters(url) | {"min_size": 0, "max_size": 0, "timeout": 3, "max_lifetime": 60, "open": False},
        lambda url: _parameters(url) | {"row_factory": psycopg.rows.dict_row, "autocommit": False, "max_waiting": 5},
    ],
)
async def test_the_ways_to_say_where(
    connector_class: type[SyncPsycopgConnector], arguments: Callable[[str], dict[str, Any]], database_url: str
) -> None:
    """A connection string, what psycopg takes, or both; with options for the pool."""
    connector = connector_class(**arguments(database_url))
    await connector.open_async()
    assert connector.run(backend_pid)
    assert await connector.run_async(backend_pid)
    await connector.close_async()


@pytest.mark.parametrize("around", ["{}\n", " {}\r\n"], ids=["newline", "space"])
@pytest.mark.parametrize("driver", [None, "psycopg2"])
def test_white_space_around_a_url_is_no_part_of_it(database_url: str, around: str, driver: str | None) -> None:
    url = libpq_url(database_url) if driver is None else driver_url(database_url, driver)
    connector = SQLAlchemyConnector(around.format(url))
    connector.open()
    name = connector.run(lambda connection: connection.execute(sa.text("SELECT current_database()")).scalar())
    assert name == sa.make_url(database_url).database
    connector.close()


def test_without_arguments_the_environment_says_where(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of libpq."""
    for name, value in _parameters(database_url).items():
        monkeypatch.setenv({"dbname": "PGDATABASE"}.get(name, f"PG{name.upper()}"), value)
    connector = PsycopgConnector()
    connector.open()
    name = connector.run(lambda connection: connection.execute(sa.text("SELECT current_database()")).scalar())
    assert name == sa.make_url(database_url).database
    connector.close()


async def test_hooks_are_called(database_url: str) -> None:
    """Those of psycopg's pool, by psycopg's pool."""
    configured: list[psycopg.AsyncConnection[Any]] = []

    async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
        configured.append(connection)

    connector = PsycopgConnector(**_parameters(database_url), configure=configure, min_size=1)
    await connector.open_async()
    await connector.run_async(backend_pid)
    assert len(configured) == 1
    await connector.close_async()


def test_hooks_are_called_for_sync_code(database_url: str) -> None:
    """By psycopg's own pool, which the connector closes."""
    connector = SyncPsycopgConnector(**_parameters(database_url), configure=_name_the_connection, min_size=1)
    for _ in range(2):  # an app may be opened again
        connector.open()
        assert connector.run(_application_name) == "configured"
        connector.close()


async def test_hooks_of_a_sync_connector_are_called_for_async_code(database_url: str) -> None:
    """It uses a pool from threads."""
    connector = SyncPsycopgConnector(**_parameters(database_url), configure=_name_the_connection, min_size=1)
    await connector.open_async()
    assert await connector.run_async(_application_name) == "configured"
    await connector.close_async()


@pytest.mark.parametrize("hook", ["check", "configure", "reset"])
def test_a_hook_that_the_pool_cannot_call_is_refused(hook: str) -> None:
    """An async pool would wait for connections in vain, and a sync one would await nothing."""

    async def asynchronous(connection: Any) -> None: ...

    def synchronous(connection: Any) -> None: ...

    with pytest.raises(TypeError, match=f"{hook} of a PsycopgConnector must be an async function"):
        PsycopgConnector(**{hook: synchronous})
    with pytest.raises(TypeError, match=f"{hook} of a SyncPsycopgConnector must be a sync function"):
        SyncPsycopgConnector(**{hook: asynchronous})


def test_a_connection_class_of_the_other_kind_is_refused() -> None:
    """The pool cannot connect with it."""
    with pytest.raises(TypeError, match="of a PsycopgConnector must be an async connection, not Connection"):
        PsycopgConnector(connection_class=psycopg.Connection)
    with pytest.raises(TypeError, match="of a SyncPsycopgConnector must be a sync connection, not AsyncConnection"):
        SyncPsycopgConnector(connection_class=psycopg.AsyncConnection)


def test_connections_that_a_hook_does_not_reach_are_named(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A worker makes its own connections, and sync code cannot await."""

    async def configure(connection: Any) -> None: ...

    connector = PsycopgConnector(**_parameters(database_url), configure=configure)
    connector.get_worker_connector()
    connector.open()
    connector.run(backend_pid)
    connector.close()
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "The option configure does not hold for the worker's own connections",
        "The option configure does not hold for synchronous code",
    ]


def _name_the_connection(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SET application_name = 'configured'")
    connection.commit()


def _application_name(connection: sa.Connection) -> Any:
    return connection.scalar(sa.text("SHOW application_name"))


async def test_the_pool_keeps_to_its_size(database_url: str) -> None:
    """``max_size`` connections, and no more."""
    connector = SyncPsycopgConnector(**_parameters(database_url), max_size=2, timeout=0.05)
    connector.open()

    def nested(connection: sa.Connection) -> None:
        connector.run(lambda _: connector.run(backend_pid))

    with pytest.raises(procrastinate.exceptions.ConnectorException, match="QueuePool limit"):
        connector.run(nested)
    connector.close()


@pytest.mark.parametrize("arguments", [{"hots": "db"}, {"kwargs": {"passwrod": "hunter2"}}, {"dsn": "hunter2"}])
def test_an_unknown_argument_is_refused_by_its_name(arguments: dict[str, Any]) -> None:
    """And without its value."""
    with pytest.raises(TypeError, match=r"hots|passwrod|dsn") as error:
        PsycopgConnector(**arguments)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("sizes", [{"min_size": 3, "max_size": 2}, {"min_size": -1}])
def test_wrong_sizes_are_refused(sizes: dict[str, int]) -> None:
    """When the connector is made."""
    with pytest.raises(ValueError, match="min_size"):
        PsycopgConnector(**sizes)


def test_json_is_the_users(database_url: str) -> None:
    """Both ways."""
    connector = PsycopgConnector(
        **_parameters(database_url),
        json_dumps=lambda value: json.dumps({name: f"<{text}>" for name, text in value.items()}),
        json_loads=lambda text: json.loads(text, object_hook=lambda value: {"loaded": value}),
    )
    app = procrastinate.App(connector=connector)
    with app.open():
        job_id = app.configure_task("task").defer(a="b")
        assert app.job_manager.list_jobs(id=job_id)[0].task_kwargs == {"loaded": {"a": "<b>"}}
    worker = connector.get_worker_connector()
    assert (worker.json_dumps, worker.json_loads) == (connector.json_dumps, connector.json_loads)


def test_the_former_names_work(database_url: str) -> None:
    """With the arguments of their libraries."""
    parameters = _parameters(database_url)
    for connector in (
        SQLAlchemyPsycopg2Connector(dsn=driver_url(database_url, "psycopg2"), pool_size=1),
        Psycopg2Connector(dsn=libpq_url(database_url), minconn=1, maxconn=2),
        Psycopg2Connector(database=parameters.pop("dbname"), **parameters),
        AiopgConnector(dsn=libpq_url(database_url), maxsize=3, enable_json=False),
    ):
        connector.open()
        assert connector.run(backend_pid)
        connector.close()


def test_the_former_paths_work() -> None:
    """They are the same classes."""
    from procrastinate import psycopg_connector, sync_psycopg_connector

    assert psycopg_connector.PsycopgConnector is PsycopgConnector
    assert sync_psycopg_connector.SyncPsycopgConnector is SyncPsycopgConnector
