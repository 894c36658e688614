"""Running operations on a SQLAlchemy engine: in autocommit, or, where an operation is atomic, in a transaction."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from procrastinate.adapters.direct import DirectConnection
from procrastinate.connector import Operation
from procrastinate.core import health
from procrastinate.core.errors import translate
from procrastinate.core.operation import is_atomic
from procrastinate.core.patience import end_when_left_alone

P = ParamSpec("P")
R = TypeVar("R")

AUTOCOMMIT = "AUTOCOMMIT"
ATOMIC = "READ COMMITTED"
"""The level that the operations are written for. Named, because an engine may be in autocommit by default."""
_ATOMIC: Mapping[str, Any] = {"isolation_level": ATOMIC}
_PINNED: Mapping[str, Any] = {"isolation_level": ATOMIC, "postgresql_readonly": False}

_PSYCOPG = frozenset({"psycopg", "psycopg_async"})

_DEFAULTS_SUIT = "procrastinate_defaults_suit"

_TRANSLATION = "schema_translate_map"

_DATABASE_ERRORS = (sa.exc.DBAPIError, sa.exc.TimeoutError, psycopg.Error, OSError)


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what the database, its driver and the network raise into this project's exceptions."""
    try:
        yield
    except _DATABASE_ERRORS as error:
        raise translate(error) from error
    except Exception as error:
        # SQLAlchemy does not wrap what asyncpg raises while it connects.
        if type(error).__module__.partition(".")[0] != "asyncpg":
            raise
        raise translate(error) from error


def call(connection: sa.Connection, operation: Operation[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run an operation on the queue's own tables, wherever the user's are.

    The connection may have a ``schema_translate_map`` (to the schema of a tenant, say). It is for the user's tables: a
    worker, on connections of its own, would not find jobs there. The connection keeps it.
    """
    translation = connection.get_execution_options().get(_TRANSLATION)
    if not translation:
        return operation(connection, *args, **kwargs)
    connection.execution_options(**{_TRANSLATION: None})
    try:
        return operation(connection, *args, **kwargs)
    finally:
        connection.execution_options(**{_TRANSLATION: translation})


def _is_in_autocommit(engine: sa.Engine, *, owned: bool) -> bool:
    """Whether there is nothing to be set on its connections: an engine's execution options come over its own level."""
    return owned and "isolation_level" not in engine.get_execution_options()


def _defaults_suit(connection: sa.Connection) -> bool:
    """Whether autocommit is READ COMMITTED and may write here: asked once a connection, of the server."""
    known: bool | None = connection.info.get(_DEFAULTS_SUIT)
    if known is None:
        known = connection.info[_DEFAULTS_SUIT] = health.transactions_write_at_read_committed(connection)
        connection.rollback()  # of the transaction that SQLAlchemy sees: the level cannot be changed in one
    return known


class EngineRunner:
    """Runs operations on an engine, whose own settings stay as they are.

    Operations of one statement run in autocommit: a transaction of their own would cost two round trips more. To turn
    it on and off again for each of them is a quarter of a defer's processor time (680 against 500 µs, the driver's
    160 included): connections of one's own are in autocommit from the first. Elsewhere the level is set on the
    connection, not by an engine derived with ``execution_options``: those of the user's engine would come over it,
    and no job be committed.

    Parameters
    ----------
    owned:
        Whether :meth:`close` disposes of the engine: not where it is the user's. One's own connects in autocommit.
    pinned:
        Whether all operations run at READ COMMITTED and may write, also where ``default_transaction_isolation`` or
        ``default_transaction_read_only`` says otherwise: each has a transaction of its own there. A setting of the
        session would be no help behind a pooler, and would stay behind in a connection that others share. The server
        ends a transaction that is left alone, for its worker may be frozen.
    """

    def __init__(self, engine: sa.Engine, *, owned: bool, pinned: bool = False) -> None:
        self.engine = engine
        self._owned = owned
        self._pinned = pinned
        self._is_in_autocommit = _is_in_autocommit(engine, owned=owned)
        self._goes_direct = owned and engine.dialect.driver in _PSYCOPG and not engine.echo
        self._texts: dict[sa.Executable, Any] = {}
        self._pool_of_closed: sa.Pool | None = None

    def _connect(self) -> sa.Connection:
        return DirectConnection(self.engine, texts=self._texts) if self._goes_direct else self.engine.connect()

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on a connection of the pool."""
        try:
            with translated_errors(), self._connect() as connection:
                unsuited = self._pinned and not _defaults_suit(connection)
                if unsuited or is_atomic(operation):
                    connection.execution_options(**(_PINNED if unsuited else _ATOMIC))
                    with connection.begin():
                        if self._pinned:
                            end_when_left_alone(connection)
                        return call(connection, operation, *args, **kwargs)
                if not self._is_in_autocommit:
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
    """As :class:`EngineRunner`, on an asynchronous engine.

    A greenlet of SQLAlchemy's takes the whole of an operation. An ``AsyncConnection`` needs one each for its start, the
    operation and its end, and a task to close it in: 470 µs of processor time a defer instead of 310.
    """

    def __init__(self, engine: AsyncEngine, *, owned: bool, pinned: bool = False) -> None:
        self.engine = engine
        self._owned = owned
        self._inside = EngineRunner(engine.sync_engine, owned=owned, pinned=pinned)

    async def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on a connection of the pool, in this event loop."""
        return await greenlet_spawn(functools.partial(self._inside.run, operation, *args, **kwargs))

    async def close(self) -> None:
        """Close the connections of an engine that is one's own."""
        if self._owned:
            self._inside.close_after_use()
            await self.engine.dispose()
