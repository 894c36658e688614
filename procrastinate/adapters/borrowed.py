"""Connections that somebody else owns: SQLAlchemy may run statements on them, and nothing more.

An engine on such a connection would begin, commit, roll back, close, or ask the server questions, each of
which may end the owner's transaction. The dialects below leave all of that out. The error classes, the
transaction and the cursor stay the owner's.

They are for short statements: no LISTEN, no streaming, no reflection (``server_version_info`` is unknown).
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
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from procrastinate.adapters.own_adapters import AsyncQueueCursor, QueueCursor

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import Dialect as _Dialect
else:
    _Dialect = object


class Borrowed(_Dialect):
    """What a dialect must not do on a connection that is somebody else's."""

    supports_statement_cache = True
    _backslash_escapes = False  # what initialize() would have asked the server

    def initialize(self, connection: sa.Connection) -> None:
        """Ask the server nothing."""

    def on_connect(self) -> None:
        """Set nothing on the connection."""

    def do_begin(self, dbapi_connection: Any) -> None:
        """The owner begins."""

    def do_commit(self, dbapi_connection: Any) -> None:
        """The owner commits."""

    def do_rollback(self, dbapi_connection: Any) -> None:
        """The owner rolls back."""

    def do_close(self, dbapi_connection: Any) -> None:
        """The owner closes."""

    def do_terminate(self, dbapi_connection: Any) -> None:
        """The owner closes."""


class BorrowedPsycopg(Borrowed, PGDialect_psycopg):
    """psycopg 3, borrowed."""

    supports_statement_cache = True


class BorrowedPsycopgAsync(Borrowed, PGDialectAsync_psycopg):
    """psycopg 3 with asyncio, borrowed."""

    supports_statement_cache = True

    @classmethod
    def get_async_dialect_cls(cls, url: sa.URL) -> type[sa.Dialect]:
        """This one, not the one it is made from."""
        return cls


class BorrowedPsycopg2(Borrowed, PGDialect_psycopg2):
    """psycopg2, borrowed."""

    supports_statement_cache = True


for _class in (BorrowedPsycopg, BorrowedPsycopgAsync, BorrowedPsycopg2):
    registry.register(f"postgresql.{_class.__name__.lower()}", __name__, _class.__name__)


def borrowed_engine(connect: Callable[[], Any], dialect: type[sa.Dialect] = BorrowedPsycopg) -> sa.Engine:
    """An engine whose connections are those that ``connect`` returns, and stay their owner's.

    Parameters
    ----------
    connect:
        Called whenever a connection is wanted. What it returns needs no more than a method ``cursor()``.
    dialect:
        :class:`BorrowedPsycopg` or :class:`BorrowedPsycopg2`.
    """
    return sa.create_engine(
        f"postgresql+{dialect.__name__.lower()}://", creator=connect, poolclass=NullPool, pool_reset_on_return=None
    )


def borrowed_async_engine(connect: Callable[[], Awaitable[Any]]) -> AsyncEngine:
    """As :func:`borrowed_engine`, for asynchronous psycopg connections."""
    return create_async_engine(
        f"postgresql+{BorrowedPsycopgAsync.__name__.lower()}://",
        async_creator=connect,
        poolclass=NullPool,
        pool_reset_on_return=None,
    )


class _Lent:
    """A raw connection, with cursors that have none of the owner's adapters, row factories and cursor factories."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def cursor(self) -> Any:
        """A plain cursor, of tuples."""
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
"""psycopg2's own for the types that the queue reads: a program may have registered others for all its connections."""


_lent: contextvars.ContextVar[_Lent] = contextvars.ContextVar("procrastinate_lent_connection")


async def _lent_async() -> _Lent:
    return _lent.get()


# One engine per driver, however many connections are lent: a statement is compiled once a process.
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
    """A SQLAlchemy connection on an open psycopg or psycopg2 connection, which is left as it was.

    Statements run in whatever transaction the owner has (psycopg opens one with the first statement, unless the
    connection is in autocommit).
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
    """As :func:`borrow`, for an asynchronous psycopg connection."""
    token = _lent.set(_LentPsycopgAsync(raw_connection))
    try:
        connection = await _async_engine().connect()
    finally:
        _lent.reset(token)
    async with contextlib.aclosing(connection):
        yield connection
