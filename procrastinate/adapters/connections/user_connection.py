"""Operations on a user's open connection (``connection=``), inside the user's transaction.

This module never commits or rolls back the user's transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from sqlalchemy.util import await_only

from procrastinate._durations import setting
from procrastinate.adapters.connections.borrowed_dialect import Borrowed, borrow, borrow_async
from procrastinate.adapters.connections.engine_runner import call, translated_errors
from procrastinate.adapters.connections.two_phase import is_two_phase
from procrastinate.connector import BaseConnector, Operation
from procrastinate.core.operation_marks import is_atomic
from procrastinate.core.session_settings import notify_nothing
from procrastinate.core.tables import CHANGE_OF_JOBS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

P = ParamSpec("P")
R = TypeVar("R")

BUSY_TIMEOUT = 3.0
"""Seconds that a call waits for a connection while another thread or asyncio task uses it."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Kinds:
    """The classes of connections and sessions that a user may give."""

    sync_sessions: tuple[type[Any], ...]
    async_sessions: tuple[type[Any], ...]
    async_connection: type[Any]
    sync: tuple[type[Any], ...]
    asynchronous: tuple[type[Any], ...]
    scoped: type[Any]


@functools.cache
def _kinds() -> _Kinds:
    """Return the classes. Loading the ORM takes long, and a program that gives no connection may not need it."""
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

    sync_sessions: tuple[type[Any], ...] = (Session, scoped_session)
    async_sessions: tuple[type[Any], ...] = (AsyncSession, async_scoped_session)
    return _Kinds(
        sync_sessions=sync_sessions,
        async_sessions=async_sessions,
        async_connection=AsyncConnection,
        sync=(sa.Connection, *sync_sessions, psycopg.Connection),
        asynchronous=(AsyncConnection, *async_sessions, psycopg.AsyncConnection),
        scoped=scoped_session,
    )


class TakesUserConnections(BaseConnector):
    """A connector that accepts ``connection=``: a connection or session of SQLAlchemy, psycopg or psycopg2."""

    def run_on(self, connection: Any, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation inside the transaction of the user's open connection or session.

        Parameters
        ----------
        connection:
            A SQLAlchemy ``Connection``, ``Session`` or ``scoped_session``, or an open psycopg or psycopg2 connection.

        Raises
        ------
        TypeError
            ``connection`` has another type, or is asynchronous.
        RuntimeError
            The connection stays busy for :data:`BUSY_TIMEOUT` seconds, for example inside a ``cursor.copy()`` block.
        """
        if isinstance(connection, _kinds().asynchronous):
            raise TypeError(
                f"connection= is asynchronous ({_name(connection)}), but the call is synchronous: await the method "
                "of the same name that ends in _async"
            )
        with translated_errors(), _as_sqlalchemy(connection) as inside:
            return _run_inside(inside, operation, *args, **kwargs)

    async def run_on_async(self, connection: Any, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation like :meth:`run_on`, from asynchronous code.

        Parameters
        ----------
        connection:
            A SQLAlchemy ``AsyncConnection``, ``AsyncSession`` or ``async_scoped_session``, or an open asynchronous
            psycopg connection. Any connection that :meth:`run_on` accepts works too. The operation then runs in a
            thread and does not block the event loop.

        Raises
        ------
        TypeError
            ``connection`` has another type.
        RuntimeError
            The connection stays busy for :data:`BUSY_TIMEOUT` seconds.
        """
        if isinstance(connection, _kinds().sync) or _is_psycopg2(connection):
            if isinstance(connection, _kinds().scoped):
                connection = connection()  # this thread's session, not that of the thread that runs it
            return await _in_thread(lambda: self.run_on(connection, operation, *args, **kwargs))

        def run(inside: sa.Connection) -> R:
            return _run_inside(inside, operation, *args, **kwargs)

        with translated_errors():
            if isinstance(connection, psycopg.AsyncConnection):
                async with borrow_async(connection) as borrowed:
                    return await borrowed.run_sync(run)
            return await (await _as_async_sqlalchemy(connection)).run_sync(run)


async def _in_thread(call: Callable[[], R]) -> R:
    """Run a call in a thread and wait for its end even if cancelled: the caller may reuse the connection at once."""
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
    elif isinstance(connection, _kinds().sync_sessions):
        yield _require_postgresql(connection.connection(bind_arguments={"clause": CHANGE_OF_JOBS}))
    elif isinstance(connection, psycopg.Connection) or _is_psycopg2(connection):
        with borrow(connection) as borrowed:
            yield borrowed
    else:
        raise _wrong_kind(connection)


async def _as_async_sqlalchemy(connection: Any) -> AsyncConnection:
    if isinstance(connection, _kinds().async_sessions):
        connection = await connection.connection(bind_arguments={"clause": CHANGE_OF_JOBS})
    if not isinstance(connection, _kinds().async_connection):
        raise _wrong_kind(connection)
    checked: AsyncConnection = _require_postgresql(connection)
    return checked


def _require_postgresql(connection: Any) -> Any:
    if connection.dialect.name != "postgresql":
        raise TypeError(f"connection= must be a PostgreSQL connection, not {connection.dialect.name}")
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
    """Refuse a SQLAlchemy connection in psycopg's pipeline mode, which SQLAlchemy does not support."""
    info = getattr(connection.connection.dbapi_connection, "info", None)
    if getattr(info, "pipeline_status", None) and not isinstance(connection.dialect, Borrowed):
        raise TypeError(
            "connection= belongs to SQLAlchemy and is in psycopg's pipeline mode, in which SQLAlchemy gets no results: "
            "leave the pipeline first, or pass the psycopg connection itself"
        )


def _refuse_busy(connection: sa.Connection) -> None:
    """Refuse a psycopg connection that stays locked. Inside a ``cursor.copy()`` block the wait would never end."""
    lock = getattr(connection.connection.driver_connection, "lock", None)
    if lock is None or not lock.locked():
        return
    is_free = await_only(_comes_free(lock)) if isinstance(lock, asyncio.Lock) else lock.acquire(timeout=BUSY_TIMEOUT)
    if not is_free:
        raise RuntimeError(
            f"connection= has been busy for {setting(BUSY_TIMEOUT)}, in cursor.copy(), cursor.stream() or notifies(): "
            "leave that block first, or pass another connection"
        )
    lock.release()


async def _comes_free(lock: asyncio.Lock) -> bool:
    """Acquire the lock as soon as it is free. Return False after :data:`BUSY_TIMEOUT` seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BUSY_TIMEOUT):
            return await lock.acquire()
    return False


def _commits_each_statement(connection: sa.Connection) -> bool:
    """Return true if the connection is in autocommit and the user has not opened a transaction with ``BEGIN``."""
    driver_connection: Any = connection.connection.dbapi_connection
    if not getattr(driver_connection, "autocommit", False):
        return False
    if hasattr(driver_connection, "info"):  # psycopg and psycopg2 use the same numbers for the states
        return bool(driver_connection.info.transaction_status == TransactionStatus.IDLE)
    owner: Any = connection.connection.driver_connection
    if hasattr(owner, "is_in_transaction"):  # asyncpg
        return not owner.is_in_transaction()
    raise TypeError(
        f"connection= is in autocommit, and {_name(owner)} does not report whether a transaction is open: "
        "use a connection without autocommit"
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
    """Roll back through the driver. SQLAlchemy invalidates a connection after a cancelled statement and would not
    run the ROLLBACK, which would leave the owner in an aborted transaction. On a lost connection the ROLLBACK
    fails, and its error must not hide the original one.
    """
    with contextlib.suppress(Exception), contextlib.closing(owned.cursor()) as cursor:
        cursor.execute("ROLLBACK")
