"""``connection=``, as the conformance suite takes it: the user's open connection, of each kind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from procrastinate.connector import BaseConnector, as_connector
from tests.standalone.user_connections import AsyncKind, SyncKind

P = ParamSpec("P")
R = TypeVar("R")


class UserRun:
    """Runs each operation in a transaction of the user's, who commits it; several in one, where the suite asks."""

    def __init__(self, connector: BaseConnector, connection: Any) -> None:
        self._connector = connector
        self._connection = connection
        self._is_open = False

    def __call__(self, operation: Callable[Concatenate[sa.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._is_open:
            return self._run_on(operation, *args, **kwargs)
        with self.transaction():
            return self._run_on(operation, *args, **kwargs)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """The user's, who rolls back whatever raises."""
        self._is_open = True
        try:
            yield
        except BaseException:
            self._end("rollback")
            raise
        else:
            self._end("commit")
        finally:
            self._is_open = False

    def _run_on(self, operation: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        return self._connector.run_on(self._connection, operation, *args, **kwargs)

    def _end(self, method: str) -> None:
        getattr(self._connection, method)()


class AsyncUserRun(UserRun):
    """As :class:`UserRun`, on an asynchronous connection, in an event loop of its own."""

    def __init__(self, connector: BaseConnector, connection: Any, loop: asyncio.Runner) -> None:
        super().__init__(connector, connection)
        self._loop = loop

    def _run_on(self, operation: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        return self._loop.run(self._connector.run_on_async(self._connection, operation, *args, **kwargs))

    def _end(self, method: str) -> None:
        self._loop.run(getattr(self._connection, method)())


@contextlib.contextmanager
def opened(kind: SyncKind, database_url: str) -> Iterator[UserRun]:
    """On a connection of this kind. The connector is not open: it must need no connection of its own."""
    with kind.open(database_url) as connection:
        yield UserRun(as_connector(database_url), connection)


@contextlib.contextmanager
def opened_async(kind: AsyncKind, database_url: str) -> Iterator[AsyncUserRun]:
    """As :func:`opened`, for asynchronous kinds."""
    with asyncio.Runner() as loop:
        connection = kind.open(database_url)
        opened_connection = loop.run(_enter(connection))
        try:
            yield AsyncUserRun(as_connector(database_url), opened_connection, loop)
        finally:
            loop.run(_exit(connection))


async def _enter(manager: contextlib.AbstractAsyncContextManager[R]) -> R:
    return await manager.__aenter__()


async def _exit(manager: contextlib.AbstractAsyncContextManager[Any]) -> None:
    await manager.__aexit__(None, None, None)
