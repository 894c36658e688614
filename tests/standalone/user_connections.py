"""The kinds of connections that users give as ``connection=``."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import psycopg
import psycopg2
import sqlalchemy as sa
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tests.database import driver_url, libpq_url


@dataclasses.dataclass(frozen=True)
class SyncKind:
    """A kind, with how it is opened, committed and rolled back by its owner."""

    name: str
    open: Callable[[str], AbstractContextManager[Any]]

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class AsyncKind:
    """As :class:`SyncKind`, asynchronous."""

    name: str
    open: Callable[[str], AbstractAsyncContextManager[Any]]

    def __str__(self) -> str:
        return self.name


def _engine_connection(driver: str) -> Callable[[str], AbstractContextManager[sa.Connection]]:
    @contextlib.contextmanager
    def opened(url: str) -> Iterator[sa.Connection]:
        engine = sa.create_engine(driver_url(url, driver))
        with engine.connect() as connection:
            yield connection
        engine.dispose()

    return opened


def _session(driver: str) -> Callable[[str], AbstractContextManager[Session]]:
    @contextlib.contextmanager
    def opened(url: str) -> Iterator[Session]:
        engine = sa.create_engine(driver_url(url, driver))
        with Session(engine) as session:
            yield session
        engine.dispose()

    return opened


@contextlib.contextmanager
def _scoped_session(url: str) -> Iterator[scoped_session[Session]]:
    engine = sa.create_engine(url)
    session = scoped_session(sessionmaker(engine))
    yield session
    session.remove()
    engine.dispose()


@contextlib.contextmanager
def _psycopg(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(libpq_url(url), row_factory=dict_row) as connection:
        yield connection


@contextlib.contextmanager
def _psycopg2(url: str) -> Iterator[Any]:
    with contextlib.closing(psycopg2.connect(libpq_url(url))) as connection:
        yield connection


def _async_engine_connection(driver: str) -> Callable[[str], AbstractAsyncContextManager[AsyncConnection]]:
    @contextlib.asynccontextmanager
    async def opened(url: str) -> AsyncIterator[AsyncConnection]:
        engine = create_async_engine(driver_url(url, driver))
        async with engine.connect() as connection:
            yield connection
        await engine.dispose()

    return opened


def _async_session(driver: str) -> Callable[[str], AbstractAsyncContextManager[AsyncSession]]:
    @contextlib.asynccontextmanager
    async def opened(url: str) -> AsyncIterator[AsyncSession]:
        engine = create_async_engine(driver_url(url, driver))
        async with AsyncSession(engine) as session:
            yield session
        await engine.dispose()

    return opened


@contextlib.asynccontextmanager
async def _async_scoped_session(url: str) -> AsyncIterator[async_scoped_session[AsyncSession]]:
    engine = create_async_engine(url)
    session = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: None)
    yield session
    await session.remove()
    await engine.dispose()


@contextlib.asynccontextmanager
async def _async_psycopg(url: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(libpq_url(url), row_factory=dict_row) as connection:
        yield connection


SYNC_KINDS = (
    SyncKind("Connection of psycopg", _engine_connection("psycopg")),
    SyncKind("Connection of psycopg2", _engine_connection("psycopg2")),
    SyncKind("Connection of pg8000", _engine_connection("pg8000")),
    SyncKind("Session of psycopg", _session("psycopg")),
    SyncKind("Session of psycopg2", _session("psycopg2")),
    SyncKind("Session of pg8000", _session("pg8000")),
    SyncKind("psycopg", _psycopg),
    SyncKind("psycopg2", _psycopg2),
)

ASYNC_KINDS = (
    AsyncKind("AsyncConnection of psycopg", _async_engine_connection("psycopg")),
    AsyncKind("AsyncConnection of asyncpg", _async_engine_connection("asyncpg")),
    AsyncKind("AsyncSession of psycopg", _async_session("psycopg")),
    AsyncKind("AsyncSession of asyncpg", _async_session("asyncpg")),
    AsyncKind("psycopg", _async_psycopg),
)

SCOPED_SESSION = SyncKind("scoped_session", _scoped_session)
ASYNC_SCOPED_SESSION = AsyncKind("async_scoped_session", _async_scoped_session)
"""They stand for a session of the kinds above."""
