"""A connection that sends plain statements directly to the driver's cursor.

SQLAlchemy compiles a statement once but prepares every execution. That takes 60 µs of processor time. The driver needs
65 µs for a whole INSERT, and Django with the driver needs 85 µs.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import psycopg
import sqlalchemy as sa
from psycopg.rows import tuple_row
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.util import await_only

from procrastinate.core.operation_marks import is_plain, is_prepared
from procrastinate.core.together import Call

PREPARES = "procrastinate_prepares"
"""The key in ``info`` of a connection. True if statements that are marked as prepared may be."""

_Row = tuple[Any, ...]

_LOST_STATEMENTS = (
    psycopg.errors.InvalidSqlStatementName,  # the session does not have it any more
    psycopg.errors.DuplicatePreparedStatement,
    psycopg.errors.FeatureNotSupported,  # a migration has changed the type of a column that the kept plan returns
)


class _Written(NamedTuple):
    text: str
    columns: SimpleResultMetaData
    constants: Mapping[str, Any]
    has_rows: bool
    is_prepared: bool


class DirectConnection(sa.Connection):
    """Runs :func:`~procrastinate.core.operation_marks.plain` statements directly, and others through SQLAlchemy.

    Its engine is a psycopg engine of the queue's own. Event listeners of the engine do not see plain statements.
    """

    _texts: ClassVar[dict[sa.Executable, _Written]] = {}
    """Statements as psycopg takes them. They are compiled once for all engines, of which a worker brings two."""
    _lent_cursor: Callable[[], Any] | None = None
    """Returns a cursor to run plain statements on. ``None`` means one of the driver."""

    def execute(self, statement: sa.Executable, parameters: Any = None, **options: Any) -> Any:
        """Execute a statement like a SQLAlchemy connection."""
        written = self._texts.get(statement)
        if written is None:
            written = self._written(statement)
        given = {} if parameters is None else parameters
        if written is None or options or not isinstance(given, Mapping):
            return super().execute(statement, parameters, **options)
        values = {**written.constants, **given} if written.constants else given
        try:
            if self._lent_cursor is not None:
                with contextlib.closing(self._lent_cursor()) as cursor:
                    cursor.execute(written.text, values)
                    return IteratorResult(written.columns, iter(cursor.fetchall() if written.has_rows else ()))
            driver: Any = self.connection.driver_connection
            prepare = True if written.is_prepared and self.info.get(PREPARES) else None
            if isinstance(driver, psycopg.AsyncConnection):
                rows = await_only(_run_async(driver, written, values, prepare))
            else:
                cursor = driver.cursor(row_factory=tuple_row).execute(written.text, values, prepare=prepare)
                rows = cursor.fetchall() if written.has_rows else []
            return IteratorResult(written.columns, iter(rows))
        except BaseException as error:
            self._invalidate_if_unsure(error)
            raise

    def execute_together(self, calls: Sequence[Call]) -> list[Any] | None:
        """Execute statements as :func:`~procrastinate.core.together.execute_together` describes.

        The statements are prepared, and the connection is asynchronous and in autocommit. The server then runs what
        comes before the end of a pipeline in one transaction.
        """
        driver: Any = self.connection.driver_connection
        can_do = isinstance(driver, psycopg.AsyncConnection) and driver.autocommit and psycopg.Pipeline.is_supported()
        if not can_do or not self.info.get(PREPARES):
            return None
        pairs = [(written, call) for call in calls if (written := self._written(call.statement)) is not None]
        if len(pairs) < len(calls):
            return None
        sent = [(written, {**written.constants, **call.parameters}) for written, call in pairs]
        try:
            rows = await_only(_run_together(driver, sent))
        except BaseException as error:
            self._invalidate_if_unsure(error)
            raise
        return [IteratorResult(written.columns, iter(one)) for (written, _), one in zip(pairs, rows, strict=True)]

    def _invalidate_if_unsure(self, error: BaseException) -> None:
        """Do as SQLAlchemy does. After a cancellation the state is unknown, and the pool must not reuse it."""
        is_closed = getattr(self.connection.dbapi_connection, "closed", False)
        if is_closed or isinstance(error, _LOST_STATEMENTS) or not isinstance(error, Exception):
            self.invalidate(error)

    def _written(self, statement: sa.Executable) -> _Written | None:
        """Return a plain statement as psycopg takes it, or ``None`` for another one."""
        written = self._texts.get(statement)
        if written is None and is_plain(statement):
            written = self._texts[statement] = self._write(statement)
        return written

    def _write(self, statement: Any) -> _Written:
        compiled = statement.compile(dialect=self.dialect)
        columns = [column.name for column in statement.exported_columns]
        return _Written(
            text=str(compiled),
            columns=SimpleResultMetaData(columns),
            has_rows=bool(columns),
            constants={name: value for name, value in compiled.params.items() if value is not None},
            is_prepared=is_prepared(statement),
        )


class BorrowedDirectConnection(DirectConnection):
    """A :class:`DirectConnection` that runs plain statements on cursors of the connection's owner.

    Parameters
    ----------
    engine:
        An engine from :func:`~procrastinate.adapters.connections.borrowed_dialect.borrowed_engine`.
    cursor:
        Returns a cursor of the owner.
    """

    _texts: ClassVar[dict[sa.Executable, _Written]] = {}

    def __init__(self, engine: sa.Engine, cursor: Callable[[], Any]) -> None:
        super().__init__(engine)
        self._lent_cursor = cursor


async def _run_async(
    driver: psycopg.AsyncConnection[Any], written: _Written, values: Mapping[str, Any], prepare: bool | None
) -> list[_Row]:
    """Run a statement and read its rows: the way from SQLAlchemy's greenlet to the event loop is taken once."""
    cursor = driver.cursor(row_factory=tuple_row)
    await cursor.execute(written.text, values, prepare=prepare)
    return await cursor.fetchall() if written.has_rows else []


async def _run_together(
    driver: psycopg.AsyncConnection[Any], statements: Sequence[tuple[_Written, Mapping[str, Any]]]
) -> list[list[_Row]]:
    """Run statements in one pipeline. Its end is the commit, and the rows are read after that.

    The driver cannot leave the pipeline of a commit that failed, and nothing else can use the connection.
    """
    cursors = []
    try:
        async with driver.pipeline():
            for written, values in statements:
                cursors.append(cursor := driver.cursor(row_factory=tuple_row))
                await cursor.execute(written.text, values, prepare=True)
    except psycopg.OperationalError as error:
        if driver.info.pipeline_status and not driver.closed:
            await driver.close()
            raise (error.__context__ or error) from None
        raise
    return [
        await cursor.fetchall() if written.has_rows else []
        for cursor, (written, _) in zip(cursors, statements, strict=True)
    ]


class DirectConnections:
    """One :class:`BorrowedDirectConnection` per thread.

    The connection is reused. It holds no resources and requests the owner's cursor for each statement.

    Parameters
    ----------
    engine, cursor:
        Those of the connections.
    """

    def __init__(self, engine: sa.Engine, cursor: Callable[[], Any]) -> None:
        self._engine = engine
        self._cursor = cursor
        self._kept = threading.local()

    @contextlib.contextmanager
    def connection(self) -> Iterator[BorrowedDirectConnection]:
        """Yield this thread's connection. A nested block, and the next block after an error, get a new one."""
        kept = self._kept.__dict__
        connection = kept.pop("connection", None) or BorrowedDirectConnection(self._engine, self._cursor)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        kept["connection"] = connection
