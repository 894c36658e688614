"""SQLAlchemy transactions for tasks, which end together with the job."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from procrastinate.core.tables import CHANGE_OF_JOBS

Bind = sa.Engine | sa.Connection | sessionmaker[Any] | Session | scoped_session[Any]
AsyncBind = AsyncEngine | AsyncConnection | async_sessionmaker[Any] | AsyncSession | async_scoped_session[Any]


def transaction_on(
    bind: Any, finish: Callable[[Any], None], finish_async: Callable[[Any], Awaitable[None]]
) -> AbstractContextManager[Any] | AbstractAsyncContextManager[Any]:
    """Return a context manager that begins a transaction, calls ``finish`` and commits. An exception rolls back.

    Parameters
    ----------
    bind:
        An ``Engine`` or a ``sessionmaker``, or their asynchronous counterparts, to open a connection or a session. Or
        an open connection or session that is not in a transaction, which its owner closes.
    finish, finish_async:
        Called with the connection or session, right before the commit.

    Raises
    ------
    TypeError
        ``bind`` has another type.
    """
    if isinstance(bind, sa.Engine | sa.Connection | sessionmaker | Session | scoped_session):
        return _sync_transaction(bind, finish)
    if isinstance(bind, AsyncEngine | AsyncConnection | async_sessionmaker | AsyncSession | async_scoped_session):
        return _async_transaction(bind, finish_async)
    raise TypeError(
        "context.transaction(...) takes an Engine, a sessionmaker, a Session or a Connection of SQLAlchemy (or their "
        f"asynchronous counterparts), not {type(bind).__name__}"
    )


@contextlib.contextmanager
def _sync_transaction(bind: Bind, finish: Callable[[Any], None]) -> Iterator[Any]:
    with _begun(bind) as opened:
        session = None if isinstance(opened, sa.Connection) else opened
        _require_transaction(
            opened if session is None else session.connection(bind_arguments={"clause": CHANGE_OF_JOBS})
        )
        yield opened
        if session is not None:
            session.flush()  # flush now, to keep the lock on the job's row short
        finish(opened)


@contextlib.asynccontextmanager
async def _async_transaction(bind: AsyncBind, finish: Callable[[Any], Awaitable[None]]) -> AsyncIterator[Any]:
    async with _begun_async(bind) as opened:
        session = None if isinstance(opened, AsyncConnection) else opened
        connection = opened if session is None else await session.connection(bind_arguments={"clause": CHANGE_OF_JOBS})
        await connection.run_sync(_require_transaction)
        yield opened
        if session is not None:
            await session.flush()
        await finish(opened)


@contextlib.contextmanager
def _begun(bind: Bind) -> Iterator[Any]:
    if isinstance(bind, sa.Engine | sessionmaker):
        with bind.begin() as opened:
            yield opened
        return
    _require_free(bind)
    with bind.begin():
        yield bind


@contextlib.asynccontextmanager
async def _begun_async(bind: AsyncBind) -> AsyncIterator[Any]:
    if isinstance(bind, AsyncEngine | async_sessionmaker):
        async with bind.begin() as opened:
            yield opened
        return
    _require_free(bind)
    async with bind.begin():
        yield bind


def _require_free(bind: Any) -> None:
    session = bind.registry() if isinstance(bind, scoped_session | async_scoped_session) else bind
    if session.in_transaction():
        raise RuntimeError(
            f"The {type(session).__name__} given to context.transaction() is already in a transaction (its first "
            "statement begins one): commit or roll it back first, or give the engine or the sessionmaker"
        )


def _require_transaction(connection: sa.Connection) -> None:
    if getattr(connection.connection.dbapi_connection, "autocommit", False):
        raise ValueError(
            "context.transaction() needs a transaction, and this connection is in autocommit: give "
            'engine.execution_options(isolation_level="READ COMMITTED")'
        )
