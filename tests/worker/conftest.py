"""Fixtures of the tests that run workers against PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from procrastinate.app import App
from tests.database import libpq_url
from tests.worker.program_process import Programs, StartProcess
from tests.worker.running import Queue, Workers, connector_for


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    """An open app on this test's database."""
    app = App(connector=connector_for(database_url))
    async with app.open_async():
        yield app


@pytest.fixture
async def workers(app: App, database_url: str) -> AsyncIterator[Workers]:
    """Starts workers for the app."""
    workers = Workers(app, database_url)
    yield workers
    await workers.end_of_test()


@pytest.fixture
def queue(connection: sa.Connection) -> Queue:
    """A look into this test's database."""
    return Queue(connection)


@pytest.fixture
async def start(database_url: str) -> AsyncIterator[StartProcess]:
    """Start the program of `tests.worker.program`."""
    programs = Programs(database_url)
    yield programs.start
    await programs.end_of_test()


@pytest.fixture
def other(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Return the connection of a user who leaves a transaction open."""
    with psycopg.connect(libpq_url(database_url), application_name="a user") as connection:
        yield connection
        connection.rollback()
