"""A borrowed connection on which plain statements go to the owner's cursor directly.

SQLAlchemy writes a statement once, and then prepares each execution anew: 60 µs of processor time, and 50 for a
connection from a pool, where the driver and Django need 85 for the whole of an INSERT. Inside a transaction, where
nothing waits for the disk, that was most of a defer.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData

from procrastinate.core.operation import is_plain


class DirectConnection(sa.Connection):
    """Runs :func:`~procrastinate.core.operation.plain` statements by themselves, and all others as SQLAlchemy does."""

    def __init__(self, engine: sa.Engine, cursor: Callable[[], Any]) -> None:
        super().__init__(engine)
        self._direct_cursor = cursor
        self._texts: dict[sa.Executable, tuple[str, SimpleResultMetaData]] = {}

    def execute(self, statement: sa.Executable, parameters: Any = None, **options: Any) -> Any:
        """As a connection of SQLAlchemy's does."""
        if options or not isinstance(parameters, Mapping) or not is_plain(statement):
            return super().execute(statement, parameters, **options)
        text, columns = self._texts.get(statement) or self._write(statement)
        with self._direct_cursor() as cursor:
            cursor.execute(text, parameters)
            return IteratorResult(columns, iter(cursor.fetchall()))

    def _write(self, statement: Any) -> tuple[str, SimpleResultMetaData]:
        columns = SimpleResultMetaData([column.name for column in statement.exported_columns])
        written = self._texts[statement] = (str(statement.compile(dialect=self.dialect)), columns)
        return written


class DirectConnections:
    """One such connection for each thread, kept: it holds nothing, and asks for its owner's cursor at each statement.

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
