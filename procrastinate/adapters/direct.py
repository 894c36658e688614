"""A connection on which plain statements go to the driver's cursor directly.

SQLAlchemy writes a statement once, and then prepares each execution anew: 60 µs of processor time, where the driver
needs 65 for the whole of an INSERT, and the driver and Django 85.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData

from procrastinate.core.operation import is_plain

_Written = tuple[str, SimpleResultMetaData]


class DirectConnection(sa.Connection):
    """Runs :func:`~procrastinate.core.operation.plain` statements by themselves, and all others as SQLAlchemy does.

    Parameters
    ----------
    engine:
        Of one's own, on psycopg: what listens to an engine does not see the plain statements.
    cursor:
        Gives a cursor, as a context manager; one of the engine's driver by default.
    texts:
        Statements as they were written before, for connections of the same engine.
    """

    def __init__(
        self,
        engine: sa.Engine,
        cursor: Callable[[], Any] | None = None,
        texts: dict[sa.Executable, _Written] | None = None,
    ) -> None:
        super().__init__(engine)
        self._direct_cursor: Callable[[], Any] = cursor or self.connection.cursor
        self._texts = {} if texts is None else texts

    def execute(self, statement: sa.Executable, parameters: Any = None, **options: Any) -> Any:
        """As a connection of SQLAlchemy's does."""
        if options or not isinstance(parameters, Mapping) or not is_plain(statement):
            return super().execute(statement, parameters, **options)
        text, columns = self._texts.get(statement) or self._write(statement)
        try:
            with contextlib.closing(self._direct_cursor()) as cursor:
                cursor.execute(text, parameters)
                return IteratorResult(columns, iter(cursor.fetchall()))
        except BaseException as error:
            # As SQLAlchemy does, or the pool would hand it out again: after a cancellation, nobody knows its state.
            if not isinstance(error, Exception) or getattr(self.connection.dbapi_connection, "closed", False):
                self.invalidate(error)
            raise

    def _write(self, statement: Any) -> _Written:
        columns = SimpleResultMetaData([column.name for column in statement.exported_columns])
        written = self._texts[statement] = (str(statement.compile(dialect=self.dialect)), columns)
        return written


class DirectConnections:
    """One such connection for each thread, on connections that somebody else owns.

    It is kept: it holds nothing, and asks for its owner's cursor at each statement.

    Parameters
    ----------
    engine:
        As :func:`~procrastinate.adapters.borrowed.borrowed_engine` makes it.
    cursor:
        Gives a cursor of the owner's, as a context manager.
    """

    def __init__(self, engine: sa.Engine, cursor: Callable[[], Any]) -> None:
        self._engine = engine
        self._cursor = cursor
        self._kept = threading.local()

    @contextlib.contextmanager
    def connection(self) -> Iterator[DirectConnection]:
        """The connection of this thread; another one inside of its own block, and after an error."""
        kept = self._kept.__dict__
        connection = kept.pop("connection", None) or DirectConnection(self._engine, self._cursor)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        kept["connection"] = connection
