"""Fixtures that run requests, tasks and the queue on one connection, in a transaction that is rolled back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncConnection

import procrastinate
from examples.sqlmodel_app import create_tables, web
from examples.sqlmodel_app.database import engine, new_session
from examples.sqlmodel_app.tasks import queue


@pytest.fixture(scope="session")
def tables() -> None:
    """Create the tables of the box office and of the queue."""
    asyncio.run(create_tables.make_tables())


@pytest_asyncio.fixture(autouse=True)
async def connection(tables: None) -> AsyncIterator[AsyncConnection]:
    """This test's connection. All sessions use it, and commit and roll back savepoints only."""
    async with engine.connect() as connection, connection.begin() as transaction:
        new_session.configure(bind=connection, join_transaction_mode="create_savepoint")
        yield connection
        new_session.configure(bind=engine)
        await transaction.rollback()
    await engine.dispose()  # its connections belong to this test's event loop


@pytest.fixture
def procrastinate_app() -> procrastinate.App:
    """The app for Procrastinate's fixtures."""
    return queue


@pytest.fixture
def procrastinate_connection(connection: AsyncConnection) -> AsyncConnection:
    """The connection on which jobs are deferred, found and run."""
    return connection


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, in the test's event loop."""
    transport = httpx.ASGITransport(web.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
