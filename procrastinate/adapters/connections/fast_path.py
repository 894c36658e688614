"""A connection that sends plain statements directly to the driver's cursor.

SQLAlchemy compiles a statement once but prepares every execution. That takes 60 µs of processor time. The driver needs
65 µs for a whole INSERT, and Django with the driver needs 85 µs.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData

from procrastinate.core.operation_marks import is_plain

_Written = tuple[str, SimpleResultMetaData]


class DirectConnection(sa.Connection):
    """Runs :func:`~procrastinate.core.operation_marks.plain` statements directly, and others through SQLAlchemy.

    Parameters
    ----------
    engine:
        An owned psycopg engine. Its event listeners do not see plain statements.
    cursor:
        Returns a cursor that is a context manager. By default the cursor of the engine's driver.
    texts:
        A cache of compiled statements, shared by the connections of one engine.
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
        """Execute a statement like a SQLAlchemy connection."""
        if options or not isinstance(parameters, Mapping) or not is_plain(statement):
            return super().execute(statement, parameters, **options)
        text, columns = self._texts.get(statement) or self._write(statement)
        try:
            with contextlib.closing(self._direct_cursor()) as cursor:
                cursor.execute(text, parameters)
                return IteratorResult(columns, iter(cursor.fetchall()))
        except BaseException as error:
            # SQLAlchemy does the same. After a cancellation the state is unknown, and the pool must not reuse it.
            if not isinstance(error, Exception) or getattr(self.connection.dbapi_connection, "closed", False):
                self.invalidate(error)
            raise

    def _write(self, statement: Any) -> _Written:
        columns = SimpleResultMetaData([column.name for column in statement.exported_columns])
        written = self._texts[statement] = (str(statement.compile(dialect=self.dialect)), columns)
        return written


class DirectConnections:
    """One :class:`DirectConnection` per thread, on borrowed connections.

    A ``DirectConnection`` is reused. It holds no resources and requests the owner's cursor for each statement.

    Parameters
    ----------
    engine:
        An engine from :func:`~procrastinate.adapters.connections.borrowed_dialect.borrowed_engine`.
    cursor:
        Returns a cursor of the owner, as a context manager.
    """

    def __init__(self, engine: sa.Engine, cursor: Callable[[], Any]) -> None:
        self._engine = engine
        self._cursor = cursor
        self._kept = threading.local()

    @contextlib.contextmanager
    def connection(self) -> Iterator[DirectConnection]:
        """Yield this thread's connection. A nested block, and the next block after an error, get a new one."""
        kept = self._kept.__dict__
        connection = kept.pop("connection", None) or DirectConnection(self._engine, self._cursor)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        kept["connection"] = connection
