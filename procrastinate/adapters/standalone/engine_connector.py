"""The base of all standalone connectors: open, run and close, on connections from any source."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from procrastinate import exceptions
from procrastinate._fork_locks import fork_lock
from procrastinate.adapters.connections.connect_args import ConnectArgs, Given
from procrastinate.adapters.connections.conninfo import elsewhere, long_lived
from procrastinate.adapters.connections.listen import listen
from procrastinate.adapters.connections.user_connection import TakesUserConnections
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.adapters.standalone.pools import AsyncRunner, SyncRunner, async_runner_for, sync_runner_for
from procrastinate.adapters.standalone.sources import Source
from procrastinate.connector import Notify, Operation

P = ParamSpec("P")
R = TypeVar("R")


class EngineConnector(TakesUserConnections):
    """Runs operations on its own engines or on the user's.

    It serves synchronous code in any thread, and asynchronous code in each event loop that opened it. A worker in a
    thread has its own connections. No connection is made before it is needed.

    Parameters
    ----------
    source:
        The source of connections.
    worker_connect_args:
        psycopg's arguments for a worker, if they cannot be derived from the source. Or a function that returns them,
        which is called for each new connection.
    listen_connect_args:
        Connection parameters that differ for listening connections.
    json_dumps, json_loads:
        Functions that convert job arguments to JSON text and back, by default those of :mod:`json`.

    Raises
    ------
    TypeError, ValueError
        ``listen_connect_args`` cannot be parsed.
    """

    def __init__(
        self,
        source: Source,
        *,
        worker_connect_args: Given | None = None,
        listen_connect_args: Mapping[str, Any] | str | None = None,
        json_dumps: Callable[[Any], str] | None = None,
        json_loads: Callable[[str], Any] | None = None,
    ) -> None:
        super().__init__(json_dumps=json_dumps, json_loads=json_loads)
        self._source = source
        self._worker_connect_args = worker_connect_args
        self._listen_connect_args = listen_connect_args
        if listen_connect_args is not None:
            elsewhere({}, listen_connect_args)
        self._lock = fork_lock()
        self._opened = False
        self._sync: SyncRunner | None = None
        self._process: int | None = None
        self._async: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncRunner] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source!r})"

    def open(self, pool: Any = None) -> None:
        """Open for synchronous code.

        Parameters
        ----------
        pool:
            An ``Engine`` or a ``psycopg_pool.ConnectionPool`` to use instead of the connector's own engine. The user
            closes it.
        """
        with self._lock:
            if pool is not None:
                self._close_sync()
                self._sync, self._process = sync_runner_for(pool), None
            self._opened = True

    def close(self) -> None:
        """Close the synchronous connections, unless the connector is still open for asynchronous code."""
        with self._lock:
            self._opened = False
            if not self._async:
                self._close_sync()

    async def open_async(self, pool: Any = None) -> None:
        """Open in this event loop, and for synchronous code.

        Parameters
        ----------
        pool:
            An ``AsyncEngine``, an ``Engine`` or a ``psycopg_pool.AsyncConnectionPool`` to use instead of the
            connector's own engine. The user closes it.
        """
        loop = asyncio.get_running_loop()
        if pool is not None:
            runner = async_runner_for(pool)
            await self._close_loop(loop)
        elif loop in self._async:
            return
        else:
            runner = self._source.make_async()
        with self._lock:
            self._async[loop] = runner

    async def close_async(self) -> None:
        """Close the connections of this event loop, and the synchronous connections if they are no longer in use."""
        await self._close_loop(asyncio.get_running_loop())
        with self._lock:
            if not self._opened and not self._async:
                self._close_sync()

    async def _close_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            runner = self._async.pop(loop, None)
        if runner is not None:
            await runner.close()

    def _close_sync(self) -> None:
        runner, self._sync = self._sync, None
        if runner is not None:
            runner.close()

    def _sync_runner(self) -> SyncRunner:
        with self._lock:
            if not self._opened and not self._async:
                raise exceptions.AppNotOpen
            # A forked process must not use its parent's connections. It leaves them open and makes its own.
            if self._sync is None or self._process not in (None, os.getpid()):
                self._sync, self._process = self._source.make_sync(), os.getpid()
            return self._sync

    def _async_runner(self) -> AsyncRunner:
        runner = self._async.get(asyncio.get_running_loop())
        if runner is not None:
            return runner
        if self._async or self._opened:
            raise exceptions.AppNotOpen(
                "The app is open for synchronous code or in another event loop, but not in this one: "
                "await app.open_async() here too"
            )
        raise exceptions.AppNotOpen

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation, from any thread.

        Raises
        ------
        AppNotOpen
            Neither :meth:`open` nor :meth:`open_async` has been called.
        ConnectorException
            The database refuses the operation or is unreachable.
        """
        return self._sync_runner().run(operation, *args, **kwargs)

    async def run_async(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation in an event loop that opened the connector. Raise the same exceptions as :meth:`run`."""
        return await self._async_runner().run(operation, *args, **kwargs)

    async def listen_notify(
        self,
        on_notification: Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        """Listen on the channels until cancelled, on a new psycopg connection."""
        self._async_runner()
        await listen(self._listening_args(), on_notification, channels, on_listening)

    def describe_database(self) -> str:
        """Return host, port, database and user. A function that gives the parameters is not called."""
        return repr(self._connect_args())

    def get_worker_connector(self) -> WorkerConnector:
        """Return the connector for a worker, which uses psycopg on the same database.

        Raises
        ------
        ValueError
            The connection parameters cannot be derived from the source: pass ``worker_connect_args``.
        """
        return WorkerConnector(
            self._connect_args().ask,
            listen_connect_args=self._listen_connect_args,
            json_dumps=self.json_dumps,
            json_loads=self.json_loads,
        )

    def _listening_args(self) -> ConnectArgs:
        different = self._listen_connect_args
        if different is None:
            return self._connect_args().changed(long_lived)
        return self._connect_args().changed(lambda asked: long_lived(elsewhere(asked, different)))

    def _connect_args(self) -> ConnectArgs:
        if self._worker_connect_args is not None:
            return ConnectArgs(self._worker_connect_args)
        return self._source.connect_args()
