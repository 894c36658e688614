"""A connector for tests that are rolled back: everything happens on one connection of the test."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any

from procrastinate.connector import BaseConnector, Operation, P, R


class BoundConnector(BaseConnector):
    """Runs every operation on one open connection of the user's, and neither begins nor commits on it.

    Parameters
    ----------
    connector:
        How: by its ``run_on``.
    connection:
        What ``connection=`` takes.
    """

    def __init__(self, connector: BaseConnector, connection: Any) -> None:
        super().__init__(json_dumps=connector.json_dumps, json_loads=connector.json_loads)
        self._connector = connector
        self._connection = connection
        # Not by `execute`: SQLModel marks it as deprecated, by a wrapper that is no coroutine function.
        self._is_async = inspect.iscoroutinefunction(getattr(connection, "commit", None))
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on the connection.

        One that is asynchronous belongs to an event loop: a sync task, in its thread, has it done there.
        """
        if self._is_async and self._loop is not None and self._loop is not _running_loop():
            call = functools.partial(self._connector.run_on_async, self._connection, operation)
            return asyncio.run_coroutine_threadsafe(call(*args, **kwargs), self._loop).result()
        return self._connector.run_on(self._connection, operation, *args, **kwargs)

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
        """Refuse: a worker has connections of its own.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(
            "A worker would not see the jobs of a transaction that is rolled back: run them with jobs.run(), or commit"
        )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
