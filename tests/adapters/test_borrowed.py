"""Borrowed connections: Procrastinate reads and writes on them, and changes nothing else about them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import psycopg2
import pytest
import sqlalchemy as sa
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from procrastinate import core
from procrastinate.adapters.connections.borrowed_dialect import borrow, borrow_async
from tests.database import libpq_url, new_job

NOON = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)

KINDS: dict[str, Callable[[str], Any]] = {
    "psycopg": psycopg.connect,
    "psycopg with rows as dicts": lambda url: psycopg.connect(url, row_factory=dict_row),
    "psycopg with raw cursors": lambda url: psycopg.connect(url, cursor_factory=psycopg.RawCursor),
    "psycopg2": psycopg2.connect,
}


@pytest.fixture(params=KINDS)
def raw(request: pytest.FixtureRequest, database_url: str) -> Iterator[Any]:
    """Return an open connection that the user created."""
    with contextlib.closing(KINDS[request.param](libpq_url(database_url))) as raw:
        yield raw


def _count(engine: sa.Engine) -> int:
    """Return the number of committed jobs."""
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT count(*) FROM procrastinate_jobs")).scalar_one()


def _exercise(connection: sa.Connection) -> None:
    job = new_job(scheduled_at=NOON, queueing_lock="once", args='{"percent": "%s"}')
    job_id = core.defer_job(connection, job)
    assert job_id is not None
    assert core.defer_job(connection, job) is None
    assert core.defer_jobs_or_none(connection, [new_job(), job]) is None
    (stored,) = core.list_jobs(connection, core.JobFilter(status=core.Status.TODO))
    assert (stored.id, stored.status, stored.scheduled_at) == (job_id, core.Status.TODO, NOON)
    assert stored.args == '{"percent": "%s"}'


def test_the_owner_commits(raw: Any, engine: sa.Engine) -> None:
    """Leaving `borrow()` does not commit."""
    with borrow(raw) as connection:
        _exercise(connection)
    assert _count(engine) == 0
    raw.commit()
    assert _count(engine) == 1


def test_the_owner_rolls_back(raw: Any, engine: sa.Engine) -> None:
    """The rollback includes statements from before the connection was borrowed."""
    with raw.cursor() as cursor:
        cursor.execute("CREATE TABLE before_the_loan ()")
    with borrow(raw) as connection, connection.begin():
        _exercise(connection)
    raw.rollback()
    assert _count(engine) == 0
    with raw.cursor() as cursor:
        cursor.execute("CREATE TABLE before_the_loan ()")


def test_an_error_leaves_the_connection_open(raw: Any) -> None:
    """The owner decides how to handle the error."""
    with borrow(raw) as connection, pytest.raises(sa.exc.ProgrammingError):
        connection.execute(sa.text("SELECT nothing"))
    raw.rollback()
    with borrow(raw) as connection:
        _exercise(connection)


def test_the_owners_loaders_are_not_used_and_stay(database_url: str) -> None:
    """Times are aware, even if the owner's connection has another loader for them."""
    with psycopg.connect(libpq_url(database_url)) as raw:
        raw.adapters.register_loader("timestamptz", TextLoader)
        with borrow(raw) as connection:
            _exercise(connection)
        assert raw.execute("SELECT '2030-01-01T00:00:00Z'::timestamptz::text").fetchone() is not None
        assert isinstance(raw.execute("SELECT now()").fetchone()[0], str)  # type: ignore[index]


async def test_asynchronously(database_url: str, engine: sa.Engine) -> None:
    """Asynchronous connections behave the same."""
    raw: Any = await psycopg.AsyncConnection.connect(libpq_url(database_url), row_factory=dict_row)
    async with raw:
        async with borrow_async(raw) as connection:
            await connection.run_sync(_exercise)
        assert _count(engine) == 0
        await raw.rollback()
        async with raw.transaction(), borrow_async(raw) as connection:
            await connection.run_sync(_exercise)
        assert _count(engine) == 1


async def test_each_borrower_gets_its_own_connection(database_url: str) -> None:
    """Concurrent borrowers do not share one."""

    async def borrow_some() -> None:
        async with await psycopg.AsyncConnection.connect(libpq_url(database_url)) as raw:
            for _ in range(5):
                async with borrow_async(raw) as connection:
                    pid = (await connection.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one()
                assert pid == raw.info.backend_pid

    await asyncio.gather(*(borrow_some() for _ in range(10)))
