"""A connector for tests that roll back: it runs everything on one connection of the test."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any

from procrastinate._running_loop import running_loop
from procrastinate.connector import BaseConnector, Operation, P, R


class BoundConnector(BaseConnector):
    """Runs every operation on one open connection of the user's, and neither begins nor commits on it.

    Parameters
    ----------
    connector:
        The connector whose ``run_on`` runs the operations.
    connection:
        A connection as for ``connection=``.
    """

    def __init__(self, connector: BaseConnector, connection: Any) -> None:
        super().__init__(json_dumps=connector.json_dumps, json_loads=connector.json_loads)
        self._connector = connector
        self._connection = connection
        # Not by `execute`: SQLModel deprecates it through a wrapper that is not a coroutine function.
        self._is_async = inspect.iscoroutinefunction(getattr(connection, "commit", None))
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on the connection.

        An asynchronous connection belongs to an event loop. A sync task in a thread runs its operation in that loop.

        Raises
        ------
        TypeError
            The connection is asynchronous, and its event loop is this thread's, or is not known yet.
        """
        if not self._is_async:
            return self._connector.run_on(self._connection, operation, *args, **kwargs)
        if self._loop is None or self._loop is running_loop():
            raise TypeError(
                "The connection of the test is asynchronous, and this call is not: await the method of the same name "
                "that ends in _async, or give the test a sync connection, which serves both kinds of calls"
            )
        call = functools.partial(self._connector.run_on_async, self._connection, operation)
        return asyncio.run_coroutine_threadsafe(call(*args, **kwargs), self._loop).result()

    async def run_async(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on the connection."""
        if self._is_async:
            self._loop = asyncio.get_running_loop()
        return await self._connector.run_on_async(self._connection, operation, *args, **kwargs)

    def run_on(self, connection: Any, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on another connection."""
        return self._connector.run_on(connection, operation, *args, **kwargs)

    async def run_on_async(self, connection: Any, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on another connection."""
        return await self._connector.run_on_async(connection, operation, *args, **kwargs)

    def get_worker_connector(self) -> BaseConnector:
        """Refuse, because a worker has its own connections.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(
            "A worker does not see the jobs of a transaction that is rolled back: run them with jobs.run(), or commit"
        )
