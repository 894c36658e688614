"""``connection=``: operations on an open connection of the user's, inside the user's transaction.

Nothing here commits the user's transaction, or rolls it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.util import await_only

from procrastinate.adapters.borrowed import Borrowed, borrow, borrow_async
from procrastinate.adapters.engines import call, translated_errors
from procrastinate.adapters.two_phase import is_two_phase
from procrastinate.connector import BaseConnector, Operation
from procrastinate.core.operation import is_atomic
from procrastinate.core.session_settings import notify_nothing

P = ParamSpec("P")
R = TypeVar("R")

BUSY_TIMEOUT = 3.0
"""Seconds for which a call waits for a connection that another thread or asyncio task uses."""

_SESSIONS = (Session, scoped_session)
_ASYNC_SESSIONS = (AsyncSession, async_scoped_session)
_SYNC = (sa.Connection, *_SESSIONS, psycopg.Connection)
_ASYNC = (AsyncConnection, *_ASYNC_SESSIONS, psycopg.AsyncConnection)


class TakesUserConnections(BaseConnector):
    """A connector that takes ``connection=``: SQLAlchemy's connections and sessions, psycopg's and psycopg2's."""

    def run_on(self, connection: Any, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation inside the transaction of an open connection, or session, of the user's.

        Parameters
        ----------
        connection:
            A SQLAlchemy ``Connection``, ``Session`` or ``scoped_session``; an open connection of psycopg or psycopg2.

        Raises
        ------
        TypeError
            It is something else, or asynchronous.
        RuntimeError
            It has been busy for :data:`BUSY_TIMEOUT` seconds, as in the block of ``cursor.copy()``.
        """
        if isinstance(connection, _ASYNC):
            raise TypeError(
                f"connection= is asynchronous ({_name(connection)}), and the call is not: await the method of the "
                "same name that ends in _async"
            )
        with translated_errors(), _as_sqlalchemy(connection) as inside:
            return _run_inside(inside, operation, *args, **kwargs)

    async def run_on_async(self, connection: Any, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As :meth:`run_on`, from asynchronous code.

        Parameters
        ----------
        connection:
            A SQLAlchemy ``AsyncConnection``, ``AsyncSession`` or ``async_scoped_session``; an open asynchronous
            connection of psycopg. Or what :meth:`run_on` takes: a thread uses it then, so that the event loop goes on.

        Raises
        ------
        TypeError
            It is something else.
        RuntimeError
            It has been busy for :data:`BUSY_TIMEOUT` seconds.
        """
        if isinstance(connection, _SYNC) or _is_psycopg2(connection):
            if isinstance(connection, scoped_session):
                connection = connection()  # the session of this thread, not of the one that uses it
            return await _in_thread(lambda: self.run_on(connection, operation, *args, **kwargs))

        def run(inside: sa.Connection) -> R:
            return _run_inside(inside, operation, *args, **kwargs)

        with translated_errors():
            if isinstance(connection, psycopg.AsyncConnection):
                async with borrow_async(connection) as borrowed:
                    return await borrowed.run_sync(run)
            return await (await _as_async_sqlalchemy(connection)).run_sync(run)


async def _in_thread(call: Callable[[], R]) -> R:
    """Run a call in a thread, to its end even when cancelled: its owner would use the connection meanwhile."""
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        running.exception()
        raise


@contextlib.contextmanager
def _as_sqlalchemy(connection: Any) -> Iterator[sa.Connection]:
    if isinstance(connection, sa.Connection):
        yield _require_postgresql(connection)
    elif isinstance(connection, _SESSIONS):
        yield _require_postgresql(connection.connection())
    elif isinstance(connection, psycopg.Connection) or _is_psycopg2(connection):
        with borrow(connection) as borrowed:
            yield borrowed
    else:
        raise _wrong_kind(connection)


async def _as_async_sqlalchemy(connection: Any) -> AsyncConnection:
    if isinstance(connection, _ASYNC_SESSIONS):
        connection = await connection.connection()
    if not isinstance(connection, AsyncConnection):
        raise _wrong_kind(connection)
    _require_postgresql(connection)
    return connection


def _require_postgresql(connection: Any) -> Any:
    if connection.dialect.name != "postgresql":
        raise TypeError(f"connection= must lead to PostgreSQL, and this one leads to {connection.dialect.name}")
    return connection


def _wrong_kind(connection: Any) -> TypeError:
    return TypeError(
        f"connection= takes an open connection or session of SQLAlchemy, psycopg or psycopg2, not {_name(connection)}"
    )


def _name(value: Any) -> str:
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__qualname__}"


def _is_psycopg2(connection: Any) -> bool:
    extensions = sys.modules.get("psycopg2.extensions")
    return extensions is not None and isinstance(connection, extensions.connection)


def _run_inside(connection: sa.Connection, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    _refuse_pipeline(connection)
    _refuse_busy(connection)
    if is_two_phase(connection):
        call(connection, notify_nothing)
    if is_atomic(operation) and _commits_each_statement(connection):
        with _transaction_block(connection):
            return call(connection, operation, *args, **kwargs)
    return call(connection, operation, *args, **kwargs)


def _refuse_pipeline(connection: sa.Connection) -> None:
    """Refuse a connection of SQLAlchemy's in psycopg's pipeline mode, which SQLAlchemy does not know."""
    info = getattr(connection.connection.dbapi_connection, "info", None)
    if getattr(info, "pipeline_status", None) and not isinstance(connection.dialect, Borrowed):
        raise TypeError(
            "connection= is one of SQLAlchemy's, in the pipeline mode of psycopg, in which SQLAlchemy gets no answers: "
            "leave the pipeline first, or give psycopg's own connection"
        )


def _refuse_busy(connection: sa.Connection) -> None:
    """Refuse a psycopg connection that stays locked: in the block of ``cursor.copy()`` the wait never ends."""
    lock = getattr(connection.connection.driver_connection, "lock", None)
    if lock is None or not lock.locked():
        return
    is_free = await_only(_comes_free(lock)) if isinstance(lock, asyncio.Lock) else lock.acquire(timeout=BUSY_TIMEOUT)
    if not is_free:
        raise RuntimeError(
            f"connection= has been busy for {BUSY_TIMEOUT:g} s, in cursor.copy(), cursor.stream() or notifies(): leave "
            "that block first, or give another connection"
        )
    lock.release()


async def _comes_free(lock: asyncio.Lock) -> bool:
    """Take the lock as soon as it is free, and return whether it was in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BUSY_TIMEOUT):
            return await lock.acquire()
    return False


def _commits_each_statement(connection: sa.Connection) -> bool:
    """Whether the connection is in autocommit, and in no transaction block that the user began by hand."""
    driver_connection: Any = connection.connection.dbapi_connection
    if not getattr(driver_connection, "autocommit", False):
        return False
    if hasattr(driver_connection, "info"):  # psycopg and psycopg2 number the states alike
        return bool(driver_connection.info.transaction_status == TransactionStatus.IDLE)
    owner: Any = connection.connection.driver_connection
    if hasattr(owner, "is_in_transaction"):  # asyncpg
        return not owner.is_in_transaction()
    raise TypeError(
        f"connection= is in autocommit, and {_name(owner)} does not tell whether a transaction is open on it: "
        "use a connection with a transaction"
    )


@contextlib.contextmanager
def _transaction_block(connection: sa.Connection) -> Iterator[None]:
    owned: Any = connection.connection.dbapi_connection
    try:
        connection.exec_driver_sql("BEGIN")
        yield
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        _roll_back(owned)
        raise


def _roll_back(owned: Any) -> None:
    """Past SQLAlchemy, for which a connection is no longer valid once a statement on it was cancelled: its owner would
    go on in a broken transaction. On one that is lost this fails, which must not hide why.
    """
    with contextlib.suppress(Exception), contextlib.closing(owned.cursor()) as cursor:
        cursor.execute("ROLLBACK")
