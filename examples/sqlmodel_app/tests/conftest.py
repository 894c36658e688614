"""A connection whose transaction is rolled back, and everything on it: requests, tasks and the queue."""

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
    """The tables of the box office and of the queue."""
    asyncio.run(create_tables.make_tables())


@pytest_asyncio.fixture(autouse=True)
async def connection(tables: None) -> AsyncIterator[AsyncConnection]:
    """The connection of this test. All sessions are led to it, and commit and roll back savepoints only."""
    async with engine.connect() as connection, connection.begin() as transaction:
        new_session.configure(bind=connection, join_transaction_mode="create_savepoint")
        yield connection
        new_session.configure(bind=engine)
        await transaction.rollback()
    await engine.dispose()  # its connections belong to the event loop of this test


@pytest.fixture
def procrastinate_app() -> procrastinate.App:
    """For the fixtures of procrastinate."""
    return queue


@pytest.fixture
def procrastinate_connection(connection: AsyncConnection) -> AsyncConnection:
    """Where jobs are deferred, looked for and run."""
    return connection


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, in the event loop of the test."""
    transport = httpx.ASGITransport(web.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
