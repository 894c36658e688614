"""Fixtures of the tests that run workers against PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from procrastinate.app import App
from procrastinate.jobs import Job
from procrastinate.worker.fetch import prefetch
from procrastinate.worker.fetch.prefetch import Prefetch
from procrastinate.worker.run import early_release
from tests.database import libpq_url
from tests.worker.gate import Gate
from tests.worker.program_process import Programs, StartProcess
from tests.worker.running import NEVER, Queue, Workers, connector_for


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
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first non-empty fetch prefetch up to ten jobs."""
    keep = Prefetch.keep

    def keep_first(self: Prefetch, jobs: Iterable[Job]) -> None:
        monkeypatch.setattr(Prefetch, "room", lambda self: 0)
        keep(self, jobs)

    monkeypatch.setattr(Prefetch, "room", lambda self: 10)
    monkeypatch.setattr(Prefetch, "keep", keep_first)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, ahead: None) -> None:
    """Let prefetched jobs wait without a practical limit."""
    for module in (prefetch, early_release):
        monkeypatch.setattr(module, "LONGEST_WAIT", NEVER)


@pytest.fixture
def gate(app: App) -> Gate:
    """Return a closed gate."""
    return Gate(app)


@pytest.fixture
def other(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Return the connection of a user who leaves a transaction open."""
    with psycopg.connect(libpq_url(database_url), application_name="a user") as connection:
        yield connection
        connection.rollback()
