"""``connection=`` in the block of ``cursor.copy()`` and its like, in which psycopg takes no other statement."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate.adapters.connections import user_connection
from tests.database import libpq_url

TASK = "task"
TABLE = "CREATE TEMP TABLE copied (n int)"
Count = Callable[[], int]


@pytest.fixture
def app(database_url: str) -> procrastinate.App:
    """An app that is not open."""
    return procrastinate.App(connector=database_url)


def in_copy(cursor: Any) -> Any:
    """Begin to copy into a table of the connection."""
    return cursor.copy("COPY copied FROM STDIN")


def test_a_connection_in_the_block_of_a_copy_is_refused(
    app: procrastinate.App, database_url: str, count_jobs: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement would wait for the end of the block, which waits for the statement."""
    monkeypatch.setattr(user_connection, "BUSY_TIMEOUT", 0.05)
    with psycopg.connect(libpq_url(database_url)) as connection:
        connection.execute(TABLE)
        with connection.cursor() as cursor, in_copy(cursor), pytest.raises(RuntimeError, match=r"cursor\.copy"):
            app.configure_task(TASK, connection=connection).defer()
        app.configure_task(TASK, connection=connection).defer()
    assert count_jobs() == 1


def test_a_connection_of_sqlalchemys_in_the_block_of_a_copy_is_refused(
    app: procrastinate.App, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_connection, "BUSY_TIMEOUT", 0.05)
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        connection.exec_driver_sql(TABLE)
        driver_connection: Any = connection.connection.driver_connection
        with driver_connection.cursor() as cursor, in_copy(cursor), pytest.raises(RuntimeError, match=r"cursor\.copy"):
            app.configure_task(TASK, connection=connection).defer()
    engine.dispose()


async def test_an_asynchronous_connection_in_the_block_of_a_copy_is_refused(
    app: procrastinate.App, database_url: str, count_jobs: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_connection, "BUSY_TIMEOUT", 0.05)
    async with await psycopg.AsyncConnection.connect(libpq_url(database_url)) as connection:
        await connection.execute(TABLE)
        async with in_copy(connection.cursor()):
            with pytest.raises(RuntimeError, match=r"cursor\.copy"):
                await app.configure_task(TASK, connection=connection).defer_async()
        await app.configure_task(TASK, connection=connection).defer_async()
    assert count_jobs() == 1


def test_a_connection_that_another_thread_uses_is_waited_for(
    app: procrastinate.App, database_url: str, count_jobs: Count
) -> None:
    with psycopg.connect(libpq_url(database_url)) as connection:
        sleeper = threading.Thread(target=lambda: connection.execute("SELECT pg_sleep(0.3)"))
        sleeper.start()
        while not connection.lock.locked():
            time.sleep(0.001)
        app.configure_task(TASK, connection=connection).defer()
        sleeper.join()
    assert count_jobs() == 1
