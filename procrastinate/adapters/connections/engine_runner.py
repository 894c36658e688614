"""Operations on a SQLAlchemy engine: in a transaction if the operation is atomic, otherwise in autocommit.

An engine of the queue's own replaces connections that were lost while idle.
"""

from __future__ import annotations

import contextlib
import functools
import select
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.util import greenlet_spawn

from procrastinate.adapters.connections.fast_path import DirectConnection
from procrastinate.adapters.connections.worker_sessions import defaults_suit
from procrastinate.connector import Operation
from procrastinate.core.errors import translate
from procrastinate.core.lock_timeouts import end_when_left_alone
from procrastinate.core.operation_marks import ATOMIC

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

P = ParamSpec("P")
R = TypeVar("R")

AUTOCOMMIT = "AUTOCOMMIT"
READ_COMMITTED = "READ COMMITTED"
"""The isolation level that the operations assume. It is explicit because an engine may default to autocommit."""
_IN_TRANSACTION: Mapping[str, Any] = {"isolation_level": READ_COMMITTED}
_PINNED: Mapping[str, Any] = {"isolation_level": READ_COMMITTED, "postgresql_readonly": False}

_PSYCOPG = frozenset({"psycopg", "psycopg_async"})

_OF_USERS_STATEMENTS = ("schema_translate_map", "stream_results", "yield_per", "max_row_buffer", "no_parameters")
"""Options of SQLAlchemy that hold for each statement of a connection.

A worker uses connections of its own and would not find jobs in the schema of a map, such as a tenant's. A statement
that streams its rows is declared as a server-side cursor, which PostgreSQL refuses for an INSERT.
"""

_SEEN = "procrastinate_seen"
"""The key in ``info`` of a pooled connection that was checked out before."""

_DATABASE_ERRORS = (sa.exc.DBAPIError, sa.exc.TimeoutError, psycopg.Error, OSError, UnicodeEncodeError)
"""Drivers raise ``UnicodeEncodeError`` for half a character in a parameter."""


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Translate errors of the database, its driver and the network into Procrastinate's exceptions."""
    try:
        yield
    except _DATABASE_ERRORS as error:
        raise translate(error) from error
    except Exception as error:
        # SQLAlchemy does not wrap asyncpg's errors during connect.
        if type(error).__module__.partition(".")[0] != "asyncpg":
            raise
        raise translate(error) from error


def call(connection: sa.Connection, operation: Operation[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run an operation on the queue's own tables.

    The connection may have options that the user's statements need and these do not bear. ``call`` turns them off for
    the operation and restores them afterwards.
    """
    given = connection.get_execution_options()
    of_user = {name: given[name] for name in _OF_USERS_STATEMENTS if given.get(name)} if given else {}
    if not of_user:
        return operation(connection, *args, **kwargs)
    connection.execution_options(**dict.fromkeys(of_user))
    try:
        return operation(connection, *args, **kwargs)
    finally:
        connection.execution_options(**of_user)


def _replace_lost_connections(engine: sa.Engine) -> None:
    """Make an engine replace lost connections at checkout.

    Otherwise the first statement after a server restart would fail, or each checkout would need a query
    (``pool_pre_ping``). Engines of drivers other than psycopg, psycopg2 and asyncpg stay unchanged.
    """
    is_lost = _LOST.get(engine.dialect.driver)
    if is_lost is None:
        return

    def refuse_lost(_dbapi_connection: Any, record: Any, _proxy: Any) -> None:
        is_new = not record.info.get(_SEEN)
        record.info[_SEEN] = True
        if not is_new and is_lost(record.driver_connection):
            raise sa.exc.DisconnectionError("The connection was lost while it was idle")

    sa.event.listen(engine, "checkout", refuse_lost)


def _psycopg_is_lost(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    try:
        # Two non-blocking reads: the first gets the server's last message, the second gets the end of the stream.
        connection.pgconn.consume_input()
        connection.pgconn.consume_input()
    except psycopg.Error:
        return True
    return bool(connection.closed)


def _psycopg2_is_lost(connection: Any) -> bool:
    """Return true if there is data to read. An idle connection receives little except the server's last message."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _asyncpg_is_lost(connection: Any) -> bool:
    """Return true if the event loop has seen the connection close."""
    return bool(connection.is_closed())


_LOST: Mapping[str, Callable[[Any], bool]] = {
    "psycopg": _psycopg_is_lost,
    "psycopg2": _psycopg2_is_lost,
    "asyncpg": _asyncpg_is_lost,
}
"""The test for a lost connection, by driver. None needs a round trip."""


def _is_in_autocommit(engine: sa.Engine, *, owned: bool) -> bool:
    """Return true if connections start in autocommit without an option. Options of the engine override that."""
    return owned and not engine.get_execution_options()


class EngineRunner:
    """Runs operations on an engine and leaves the engine's own settings unchanged.

    An operation of one statement runs in autocommit, because a transaction would add two round trips. Switching
    autocommit on and off per operation takes a quarter of a defer's processor time (680 against 500 µs, of which the
    driver takes 160). Owned engines therefore start in autocommit. On a user's engine the level is set on the
    connection. An engine derived with ``execution_options`` would not do: the user's execution options would override
    the level, and no job would be committed.

    Parameters
    ----------
    owned:
        True if :meth:`close` disposes of the engine. An owned engine connects in autocommit, and from now on replaces
        lost connections. False for a user's engine.
    pinned:
        True to run every operation at READ COMMITTED and read-write, whatever ``default_transaction_isolation`` and
        ``default_transaction_read_only`` say. If they say otherwise, each operation runs in its own transaction. A
        session setting would not survive a pooler, or would leak into a shared connection. The server ends an idle
        transaction, because its worker may be frozen.
    """

    def __init__(self, engine: sa.Engine, *, owned: bool, pinned: bool = False) -> None:
        self.engine = engine
        self._owned = owned
        self._pinned = pinned
        self._is_in_autocommit = _is_in_autocommit(engine, owned=owned)
        self._goes_direct = owned and engine.dialect.driver in _PSYCOPG and not engine.echo
        self._pool_of_closed: sa.Pool | None = None
        if owned:
            _replace_lost_connections(engine)

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on a connection of the pool."""
        try:
            engine = self.engine
            with translated_errors(), DirectConnection(engine) if self._goes_direct else engine.connect() as connection:
                unsuited = self._pinned and not defaults_suit(connection)
                if unsuited or getattr(operation, ATOMIC, False):
                    connection.execution_options(**(_PINNED if unsuited else _IN_TRANSACTION))
                    with connection.begin():
                        if self._pinned:
                            end_when_left_alone(connection)
                        return call(connection, operation, *args, **kwargs)
                if self._is_in_autocommit:
                    return operation(connection, *args, **kwargs)
                connection.execution_options(isolation_level=AUTOCOMMIT)
                return call(connection, operation, *args, **kwargs)
        finally:
            if self._pool_of_closed is not None:
                self._pool_of_closed.dispose()
                self.engine.dispose()

    def close(self) -> None:
        """Close the connections of an engine that is one's own.

        One that runs an operation now, in another thread, is closed after that.
        """
        if self._owned:
            self.close_after_use()
            self.engine.dispose()

    def close_after_use(self) -> None:
        """Let each operation that runs now close its connection at its end: the pool would keep it open."""
        self._pool_of_closed = self.engine.pool


class AsyncEngineRunner:
    """Runs operations like :class:`EngineRunner`, on an asynchronous engine.

    One SQLAlchemy greenlet runs the whole operation. An ``AsyncConnection`` needs three, for its start, the operation
    and its end, and a task for closing: 470 µs of processor time per defer instead of 310.
    """

    def __init__(self, engine: AsyncEngine, *, owned: bool, pinned: bool = False) -> None:
        self.engine = engine
        self._owned = owned
        self._inside = EngineRunner(engine.sync_engine, owned=owned, pinned=pinned)

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return the coroutine that runs an operation on a pooled connection, in this event loop."""
        return greenlet_spawn(functools.partial(self._inside.run, operation, *args, **kwargs))

    async def close(self) -> None:
        """Close the connections of an owned engine."""
        if self._owned:
            self._inside.close_after_use()
            await self.engine.dispose()
