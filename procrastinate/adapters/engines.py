"""Running operations on a SQLAlchemy engine: in autocommit, or, where an operation is atomic, in a transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ParamSpec, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from procrastinate.connector import Operation
from procrastinate.core.errors import translate
from procrastinate.core.operation import is_atomic

P = ParamSpec("P")
R = TypeVar("R")

AUTOCOMMIT = "AUTOCOMMIT"
ATOMIC = "READ COMMITTED"
"""The level that the operations are written for. Named, because an engine may be in autocommit by default."""

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


class EngineRunner:
    """Runs operations on an engine, whose own settings stay as they are.

    Operations of one statement run in autocommit: a transaction of their own would cost two round trips more.

    Parameters
    ----------
    owned:
        Whether :meth:`close` disposes of the engine: not where it is the user's.
    """

    def __init__(self, engine: sa.Engine, *, owned: bool) -> None:
        self.engine = engine
        self._owned = owned
        self._autocommit = engine.execution_options(isolation_level=AUTOCOMMIT)
        self._atomic = engine.execution_options(isolation_level=ATOMIC)

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on a connection of the pool."""
        with translated_errors():
            if is_atomic(operation):
                with self._atomic.begin() as connection:
                    return operation(connection, *args, **kwargs)
            with self._autocommit.connect() as connection:
                return operation(connection, *args, **kwargs)

    def close(self) -> None:
        """Close the connections of an engine that is one's own."""
        if self._owned:
            self.engine.dispose()


class AsyncEngineRunner:
    """As :class:`EngineRunner`, on an asynchronous engine."""

    def __init__(self, engine: AsyncEngine, *, owned: bool) -> None:
        self.engine = engine
        self._owned = owned
        self._autocommit = engine.execution_options(isolation_level=AUTOCOMMIT)
        self._atomic = engine.execution_options(isolation_level=ATOMIC)

    async def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on a connection of the pool."""
        with translated_errors():
            if is_atomic(operation):
                async with self._atomic.begin() as connection:
                    return await connection.run_sync(operation, *args, **kwargs)
            async with self._autocommit.connect() as connection:
                return await connection.run_sync(operation, *args, **kwargs)

    async def close(self) -> None:
        """Close the connections of an engine that is one's own."""
        if self._owned:
            await self.engine.dispose()
