"""What users give to ``context.transaction(...)``."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tests.database import driver_url


@dataclasses.dataclass(frozen=True)
class BindKind:
    """A kind of bind, and how it is made of an engine."""

    name: str
    driver: str
    make: Callable[[Any], Any]

    def __str__(self) -> str:
        return f"{self.name} of {self.driver}"

    def open(self, url: str) -> AbstractContextManager[Any]:
        """For a sync task."""
        return _opened(driver_url(url, self.driver), self.make)

    def open_async(self, url: str) -> AbstractAsyncContextManager[Any]:
        """For an async task."""
        return _opened_async(driver_url(url, self.driver), self.make)


@contextlib.contextmanager
def _opened(url: str, make: Callable[[sa.Engine], Any]) -> Iterator[Any]:
    engine = sa.create_engine(url)
    yield make(engine)
    engine.dispose()


@contextlib.asynccontextmanager
async def _opened_async(url: str, make: Callable[[AsyncEngine], Any]) -> AsyncIterator[Any]:
    engine = create_async_engine(url)
    made = make(engine)
    yield await made if isinstance(made, AsyncConnection) else made
    await engine.dispose()


SYNC_BINDS = (
    BindKind("Engine", "psycopg", lambda engine: engine),
    BindKind("Engine", "pg8000", lambda engine: engine),
    BindKind("Connection", "psycopg2", lambda engine: engine.connect()),
    BindKind("sessionmaker", "psycopg", sessionmaker),
    BindKind("sessionmaker", "psycopg2", sessionmaker),
    BindKind("sessionmaker", "pg8000", sessionmaker),
    BindKind("Session", "psycopg", Session),
    BindKind("scoped_session", "psycopg", lambda engine: scoped_session(sessionmaker(engine))),
)

ASYNC_BINDS = (
    BindKind("AsyncEngine", "psycopg", lambda engine: engine),
    BindKind("AsyncEngine", "asyncpg", lambda engine: engine),
    BindKind("async_sessionmaker", "psycopg", async_sessionmaker),
    BindKind("async_sessionmaker", "asyncpg", async_sessionmaker),
    BindKind("AsyncConnection", "psycopg", lambda engine: engine.connect()),
    BindKind("AsyncConnection", "asyncpg", lambda engine: engine.connect()),
    BindKind("AsyncSession", "psycopg", AsyncSession),
    BindKind("AsyncSession", "asyncpg", AsyncSession),
    BindKind(
        "async_scoped_session",
        "asyncpg",
        lambda engine: async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: None),
    ),
)
