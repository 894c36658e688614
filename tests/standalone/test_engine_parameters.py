"""How an engine connects, told to psycopg."""

from __future__ import annotations

import pathlib
import ssl
from typing import Any

import psycopg
import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from procrastinate.adapters.connections.conninfo import connection_parameters
from procrastinate.adapters.standalone import SQLAlchemyConnector
from procrastinate.adapters.standalone.engine_conninfo import engine_connect_args, psycopg_parameters
from tests.database import driver_url, libpq_url


def _engine(url: str, **options: Any) -> sa.Engine:
    if "asyncpg" in url:
        return create_async_engine(url, **options).sync_engine
    return sa.create_engine(url, **options)


_UNVERIFIED = ssl.create_default_context()
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        (
            "postgresql+psycopg://me:p%40ss@db:5433/name?sslmode=require&application_name=web",
            {},
            {"host": "db", "port": 5433, "user": "me", "password": "p@ss", "dbname": "name"}
            | {"sslmode": "require", "application_name": "web"},
        ),
        (
            "postgresql+psycopg://",
            {"connect_args": {"conninfo": "service=prod", "prepare_threshold": None}},
            {"service": "prod", "prepare_threshold": None},
        ),
        (
            "postgresql+psycopg://me@/name?host=one:1&host=two:2",
            {},
            {"user": "me", "dbname": "name", "host": "one,two", "port": "1,2"},
        ),
        (
            "postgresql+psycopg2://me@/name?host=/sockets",
            {"connect_args": {"options": "-c a=b", "cursor_factory": object}},
            {"user": "me", "dbname": "name", "host": "/sockets", "options": "-c a=b"},
        ),
        (
            "postgresql+pg8000://me:secret@/name?unix_sock=/sockets/.s.PGSQL.5433",
            {"connect_args": {"timeout": 2.5, "ssl_context": True}},
            {"user": "me", "password": "secret", "dbname": "name", "host": "/sockets", "port": "5433"}
            | {"connect_timeout": 3, "sslmode": "require"},
        ),
        (
            "postgresql+asyncpg://me:secret@db/name?ssl=verify-full",
            {"connect_args": {"server_settings": {"search_path": "a, b"}, "statement_cache_size": 0, "timeout": 5}},
            {"user": "me", "password": "secret", "host": "db", "dbname": "name", "sslmode": "verify-full"}
            | {"options": "-c search_path=a,\\ b", "connect_timeout": 5, "prepare_threshold": None},
        ),
        (
            "postgresql+asyncpg://me@pooler/name",
            {"connect_args": {"server_settings": {"application_name": "shop"}}},
            {"user": "me", "host": "pooler", "dbname": "name", "application_name": "shop"},
        ),
        (
            "postgresql+asyncpg://me@/name?host=one:1&host=two:2",
            {"connect_args": {"ssl": _UNVERIFIED}},
            {"user": "me", "dbname": "name", "host": "one,two", "port": "1,2", "sslmode": "require"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_urls_and_connect_args_are_translated(url: str, options: dict[str, Any], expected: dict[str, Any]) -> None:
    """Into what libpq calls them."""
    assert psycopg_parameters(_engine(url, **options)) == expected


def test_asyncpg_that_verifies_the_server_is_translated_by_the_certificates_that_python_trusts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """asyncpg verifies if it gets True. libpq's mode ``require`` verifies nothing."""
    trusted = tmp_path / "trusted.pem"
    trusted.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    asked = psycopg_parameters(_engine("postgresql+asyncpg://me@db/name", connect_args={"ssl": True}))
    assert (asked["sslmode"], asked["sslrootcert"]) == ("verify-full", str(trusted))


def test_asyncpg_that_verifies_the_server_by_certificates_without_a_file_has_to_name_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/trusted.pem")
    with pytest.raises(ValueError, match=r"ssl=True verifies the server.*worker_connect_args"):
        psycopg_parameters(_engine("postgresql+asyncpg://me@db/name", connect_args={"ssl": True}))


def _set_search_path(dbapi_connection: Any, record: Any) -> None:
    with dbapi_connection.cursor() as cursor:
        cursor.execute("SET search_path = jobs")


def test_a_listener_of_connect_that_a_worker_passes_by_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """A program with a search path of this kind defers into one schema, and its worker looks into another."""
    engine = sa.create_engine("postgresql+psycopg://me@db/name")
    SQLAlchemyConnector(engine).get_worker_connector()
    assert not caplog.messages
    sa.event.listen(engine, "connect", _set_search_path)
    SQLAlchemyConnector(engine, worker_connect_args={"host": "db"}).get_worker_connector()
    assert not caplog.messages
    SQLAlchemyConnector(engine).get_worker_connector()
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "The engine's listener _set_search_path of 'connect' does not hold for the worker's own connections"
    ]


def test_a_listener_of_connect_that_sync_code_passes_by_is_named(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Sync code of a program with an asynchronous engine has connections of psycopg."""
    engine = create_async_engine(driver_url(database_url, "asyncpg"))
    sa.event.listen(engine.sync_engine, "connect", _set_search_path)
    connector = SQLAlchemyConnector(engine)
    connector.open()
    connector.run(_application_name)
    connector.close()
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "The engine's listener _set_search_path of 'connect' does not hold for synchronous code"
    ]


def test_do_connect_hooks_are_heard() -> None:
    """They may bring a password that changes every quarter of an hour."""
    engine = sa.create_engine("postgresql+psycopg://me@db/name")

    @sa.event.listens_for(engine, "do_connect")
    def bring_token(dialect: Any, record: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        keywords["password"] = "token"

    assert psycopg_parameters(engine)["password"] == "token"


def test_the_engine_connects_as_before() -> None:
    """What asked how it connects leaves nothing behind."""
    engine = sa.create_engine("postgresql+psycopg://me@/name?host=/nowhere")
    psycopg_parameters(engine)
    with pytest.raises(sa.exc.OperationalError, match="/nowhere"):
        engine.connect()


async def _password_async() -> str:
    return "secret"


def test_a_password_that_is_a_function_is_asked_for_whenever_a_connection_is_made() -> None:
    passwords = iter(["first", "second", "third"])
    engine = create_async_engine("postgresql+asyncpg://", connect_args={"password": lambda: next(passwords)})
    arguments = engine_connect_args(engine.sync_engine)
    assert [arguments.ask()["password"], arguments.ask()["password"]] == ["second", "third"]


@pytest.mark.parametrize(
    "engine",
    [
        sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect("")),
        create_async_engine("postgresql+psycopg://", async_creator=lambda: psycopg.AsyncConnection.connect("")),
        create_async_engine("postgresql+asyncpg://", connect_args={"password": _password_async}),
        create_async_engine("postgresql+asyncpg://", connect_args={"ssl": ssl.create_default_context()}),
    ],
)
def test_what_cannot_be_told_is_asked_for(engine: Any) -> None:
    """By the argument to give."""
    with pytest.raises(ValueError, match="worker_connect_args"):
        psycopg_parameters(getattr(engine, "sync_engine", engine))


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", None])
async def test_a_creator_makes_every_connection_of_a_url(database_url: str, driver: str | None) -> None:
    """A worker cannot use it, and asks for parameters, in place of going where the URL says."""
    address = {**connection_parameters(libpq_url(database_url)), "application_name": "created"}
    module = psycopg2 if driver == "psycopg2" else psycopg
    nowhere = f"postgresql{f'+{driver}' if driver else ''}://nowhere.invalid/none"
    connector = SQLAlchemyConnector(nowhere, creator=lambda: module.connect(**address))
    await connector.open_async()
    assert connector.run(_application_name) == "created"
    assert await connector.run_async(_application_name) == "created"
    await connector.close_async()
    with pytest.raises(ValueError, match=r"has its own creator.*worker_connect_args"):
        connector.get_worker_connector()


def _application_name(connection: sa.Connection) -> Any:
    return connection.scalar(sa.text("SHOW application_name"))
