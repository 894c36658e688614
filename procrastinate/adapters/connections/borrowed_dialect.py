"""Borrowed connections: SQLAlchemy runs statements on a connection that another library or the user owns.

A plain engine begins, commits, rolls back and closes, and it queries the server when it connects. Each of these can
end the owner's transaction. The dialects below leave all of them out. The owner keeps its error classes, its
transaction and its cursor.

Use borrowed connections for short statements only. They support no LISTEN, no streaming and no reflection
(``server_version_info`` is unknown).
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg, PGDialectAsync_psycopg
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.pool import NullPool

from procrastinate.adapters.connections.psycopg_types import AsyncQueueCursor, QueueCursor

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import Dialect as _Dialect
else:
    _Dialect = object


class Borrowed(_Dialect):
    """A dialect mixin that disables every operation reserved to the connection's owner."""

    supports_statement_cache = True
    _backslash_escapes = False  # initialize() would query the server for it

    def initialize(self, connection: sa.Connection) -> None:
        """Do nothing: the server is not queried."""

    def on_connect(self) -> None:
        """Return no callback: the connection's settings stay."""

    def do_begin(self, dbapi_connection: Any) -> None:
        """Do nothing: the owner begins."""

    def do_commit(self, dbapi_connection: Any) -> None:
        """Do nothing: the owner commits."""

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Do nothing: the owner rolls back."""

    def do_close(self, dbapi_connection: Any) -> None:
        """Do nothing: the owner closes."""

    def do_terminate(self, dbapi_connection: Any) -> None:
        """Do nothing: the owner closes."""


class BorrowedPsycopg(Borrowed, PGDialect_psycopg):
    """The psycopg 3 dialect on a borrowed connection."""

    supports_statement_cache = True


class BorrowedPsycopgAsync(Borrowed, PGDialectAsync_psycopg):
    """The asyncio dialect of psycopg 3 on a borrowed connection."""

    supports_statement_cache = True

    @classmethod
    def get_async_dialect_cls(cls, url: sa.URL) -> type[sa.Dialect]:
        """Return this class. The inherited method returns SQLAlchemy's own dialect."""
        return cls


class BorrowedPsycopg2(Borrowed, PGDialect_psycopg2):
    """The psycopg2 dialect on a borrowed connection."""

    supports_statement_cache = True


for _class in (BorrowedPsycopg, BorrowedPsycopgAsync, BorrowedPsycopg2):
    registry.register(f"postgresql.{_class.__name__.lower()}", __name__, _class.__name__)


def borrowed_engine(connect: Callable[[], Any], dialect: type[sa.Dialect] = BorrowedPsycopg) -> sa.Engine:
    """Return an engine that takes its connections from ``connect`` and never closes them.

    Parameters
    ----------
    connect:
        A function that the engine calls whenever it needs a connection. The object it returns needs only a
        ``cursor()`` method.
    dialect:
        :class:`BorrowedPsycopg` or :class:`BorrowedPsycopg2`.
    """
    return sa.create_engine(
        f"postgresql+{dialect.__name__.lower()}://", creator=connect, poolclass=NullPool, pool_reset_on_return=None
    )


def borrowed_async_engine(connect: Callable[[], Awaitable[Any]]) -> AsyncEngine:
    """Return an engine like :func:`borrowed_engine`, for asynchronous psycopg connections."""
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine(
        f"postgresql+{BorrowedPsycopgAsync.__name__.lower()}://",
        async_creator=connect,
        poolclass=NullPool,
        pool_reset_on_return=None,
    )


class _Lent:
    """A raw connection whose cursors ignore the owner's adapters, row factories and cursor factories."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def cursor(self) -> Any:
        """Return a plain cursor, which returns rows as tuples."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class _LentPsycopg(_Lent):
    def cursor(self) -> psycopg.Cursor[Any]:
        return QueueCursor(self._connection)


class _LentPsycopgAsync(_Lent):
    def cursor(self) -> psycopg.AsyncCursor[Any]:
        return AsyncQueueCursor(self._connection)


class _LentPsycopg2(_Lent):
    def cursor(self) -> Any:
        extensions = importlib.import_module("psycopg2.extensions")
        cursor = self._connection.cursor(cursor_factory=extensions.cursor)
        for name in _PSYCOPG2_READERS:
            extensions.register_type(getattr(extensions, name), cursor)
        return cursor


_PSYCOPG2_READERS = ("UNICODE", "INTEGER", "LONGINTEGER", "FLOAT", "BOOLEAN", "PYDATETIMETZ")
"""psycopg2's own typecasters for the types the queue reads. A program may have registered others globally."""


_lent: contextvars.ContextVar[_Lent] = contextvars.ContextVar("procrastinate_lent_connection")


async def _lent_async() -> _Lent:
    return _lent.get()


# One engine per driver for all lent connections, so that a process compiles each statement once.
_engines: dict[type[Any], sa.Engine] = {}
_async_engines: list[AsyncEngine] = []


def _engine_for(dialect: type[sa.Dialect]) -> sa.Engine:
    if dialect not in _engines:
        _engines[dialect] = borrowed_engine(_lent.get, dialect)
    return _engines[dialect]


def _async_engine() -> AsyncEngine:
    if not _async_engines:
        _async_engines.append(borrowed_async_engine(_lent_async))
    return _async_engines[0]


@contextlib.contextmanager
def borrow(raw_connection: Any) -> Iterator[sa.Connection]:
    """Yield a SQLAlchemy connection on an open psycopg or psycopg2 connection, and leave that connection open.

    Statements run in the owner's current transaction. If none is open, psycopg opens one with the first statement,
    unless the connection is in autocommit.
    """
    if isinstance(raw_connection, psycopg.Connection):
        lent: _Lent = _LentPsycopg(raw_connection)
        engine = _engine_for(BorrowedPsycopg)
    else:
        lent = _LentPsycopg2(raw_connection)
        engine = _engine_for(BorrowedPsycopg2)
    token = _lent.set(lent)
    try:
        connection = engine.connect()
    finally:
        _lent.reset(token)
    with connection:
        yield connection


@contextlib.asynccontextmanager
async def borrow_async(raw_connection: psycopg.AsyncConnection[Any]) -> AsyncIterator[AsyncConnection]:
    """Yield a connection like :func:`borrow`, for an asynchronous psycopg connection."""
    token = _lent.set(_LentPsycopgAsync(raw_connection))
    try:
        connection = await _async_engine().connect()
    finally:
        _lent.reset(token)
    async with contextlib.aclosing(connection):
        yield connection
