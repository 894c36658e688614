"""Databases that are not in UTF-8."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

import procrastinate
from procrastinate import exceptions
from procrastinate.adapters.connections import listen
from procrastinate.adapters.connections.connect_args import ConnectArgs
from procrastinate.adapters.connections.conninfo import connection_parameters
from procrastinate.adapters.standalone import SQLAlchemyConnector
from tests import database


def _database(databases: database.Databases, encoding: str) -> Iterator[str]:
    name = databases.new_name()
    databases._execute(
        f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    url = database.url_text(databases.server.set(database=name))
    app = procrastinate.App(connector=database.libpq_url(url))
    with app.open():
        app.schema_manager.apply_schema()
    yield url
    databases.drop(url)


@pytest.fixture
def ascii_url(databases: database.Databases) -> Iterator[str]:
    """A database in SQL_ASCII: what initdb makes where LANG is C, and where the server converts nothing."""
    yield from _database(databases, "SQL_ASCII")


@pytest.fixture
def latin1_url(databases: database.Databases) -> Iterator[str]:
    """A database in LATIN1."""
    yield from _database(databases, "LATIN1")


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000", "asyncpg"])
def test_jobs_run_in_a_database_in_sql_ascii_whatever_the_driver(ascii_url: str, driver: str) -> None:
    app = procrastinate.App(connector=SQLAlchemyConnector(database.driver_url(ascii_url, driver)))
    ran = []
    task = app.task(name="tâche", queue="été", on_conflict="skip")(lambda value: ran.append(value))
    with app.open():
        job_id = task.configure(queueing_lock="clé").defer(value="plain")
        assert task.configure(queueing_lock="clé").defer(value="plain") == job_id
    app.run_worker(wait=False, install_signal_handlers=False)
    with app.open():
        [job] = app.job_manager.list_jobs()
    assert (ran, job.task_name, job.queue, job.status) == (["plain"], "tâche", "été", "succeeded")


def test_a_connection_is_lent_that_gives_bytes_for_text(ascii_url: str) -> None:
    app = procrastinate.App(connector=database.libpq_url(ascii_url))
    with psycopg.connect(database.libpq_url(ascii_url), client_encoding="SQL_ASCII") as connection:
        options = {"queueing_lock": "clé", "on_conflict": "skip", "connection": connection}
        first = app.configure_task("tâche", **options).defer()
        assert app.configure_task("tâche", **options).defer() == first
        assert connection.execute("SELECT 'as before'").fetchone() == (b"as before",)


def test_what_a_database_cannot_hold_is_refused_where_the_job_is_deferred(latin1_url: str) -> None:
    app = procrastinate.App(connector=database.libpq_url(latin1_url))
    with app.open():
        assert app.configure_task("tâche", queue="été").defer(value="é")
        with pytest.raises(exceptions.ConnectorException, match="LATIN1"):
            app.configure_task("task", queue="🎉").defer()


async def test_a_notification_that_is_no_text_ends_no_listener(ascii_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server in SQL_ASCII sends the bytes of any role as they are."""
    monkeypatch.setattr(listen, "UNREADABLE_PAUSE", 0.01)
    heard: asyncio.Queue[str] = asyncio.Queue()
    listening = asyncio.Event()

    async def hear(*, channel: str, payload: str) -> None:
        heard.put_nowait(payload)

    parameters = ConnectArgs(connection_parameters(database.libpq_url(ascii_url)))
    task = asyncio.create_task(listen.listen(parameters, hear, ["channel"], listening.set))
    async with asyncio.timeout(20):
        await listening.wait()
        listening.clear()
        with psycopg.connect(database.libpq_url(ascii_url), autocommit=True) as connection:
            connection.execute(b"SELECT pg_notify('channel', E'\\xff\\xfe')")
            await listening.wait()  # what may be lost is looked for
            connection.execute("SELECT pg_notify('channel', 'after')")
            assert await heard.get() == "after"
    task.cancel()
    await asyncio.wait([task])
