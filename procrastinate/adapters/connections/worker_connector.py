"""The worker's connector, which has its own engines however its app connects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from procrastinate import exceptions, worker_observers
from procrastinate.adapters.connections import answer_timeout
from procrastinate.adapters.connections.connect_args import ConnectArgs, Given
from procrastinate.adapters.connections.conninfo import elsewhere, long_lived
from procrastinate.adapters.connections.engine_runner import AsyncEngineRunner, EngineRunner
from procrastinate.adapters.connections.listen import listen
from procrastinate.adapters.connections.psycopg_engine import psycopg_async_engine, psycopg_engine
from procrastinate.adapters.connections.user_connection import TakesUserConnections
from procrastinate.adapters.connections.worker_sessions import MARKED_ONLY
from procrastinate.connector import Notify, Operation

P = ParamSpec("P")
R = TypeVar("R")

_ASYNC_CONNECTIONS = 2
_SYNC_CONNECTIONS = 1
_OPTIONS: Mapping[str, Any] = {"max_overflow": 0}


class WorkerConnector(TakesUserConnections):
    """Up to four psycopg connections to one database.

    Two connections serve the event loop and one serves the other threads: heartbeats must not wait for the loop. The
    fourth one listens. A connection opens when it is needed. It is replaced if it is lost or if the server does not
    answer. Operations run read-write at READ COMMITTED, whatever the defaults of the database or role are.

    Parameters
    ----------
    connect_args:
        A connection string, or arguments of :func:`psycopg.connect`. Or a function that returns either. The function
        is called for each new connection, in any thread.
    listen_connect_args:
        Connection parameters that differ for the listening connection, in the same form. Use them to bypass a pooler in
        transaction mode.

    Raises
    ------
    TypeError, ValueError
        A parameter cannot be parsed. The message does not repeat it, because it may contain a password.
    """

    def __init__(
        self,
        connect_args: Given,
        *,
        listen_connect_args: Mapping[str, Any] | str | None = None,
        json_dumps: Callable[[Any], str] | None = None,
        json_loads: Callable[[str], Any] | None = None,
    ) -> None:
        super().__init__(json_dumps=json_dumps, json_loads=json_loads)
        self._given = connect_args
        self._connect_args = ConnectArgs(connect_args).changed(lambda asked: _prepares_marked(long_lived(asked)))
        self._listen_connect_args = listen_connect_args
        self._listening_args = self._connect_args
        if listen_connect_args is not None:
            elsewhere({}, listen_connect_args)  # parse now, to raise an error early
            self._listening_args = self._connect_args.changed(
                lambda asked: long_lived(elsewhere(asked, listen_connect_args))
            )
        self._sync: EngineRunner | None = None
        self._process: int | None = None
        self._async: AsyncEngineRunner | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connect_args!r})"

    def open(self, pool: Any = None) -> None:
        """Open for synchronous use. A worker makes its own engines and accepts no pool."""
        _refuse_engine(pool)
        if self._sync is None:
            self._sync, self._process = self._make_sync(), os.getpid()

    def _make_sync(self) -> EngineRunner:
        engine = psycopg_engine(self._connect_args, pool_size=_SYNC_CONNECTIONS, **_OPTIONS)
        answer_timeout.watch_connections(engine)
        return EngineRunner(engine, owned=True, pinned=True)

    def _sync_runner(self) -> EngineRunner:
        """Return the runner of this process. A process that a job forks must not use the connection of the worker."""
        if self._sync is None:
            raise exceptions.AppNotOpen
        if self._process != os.getpid():
            self._sync, self._process = self._make_sync(), os.getpid()
        return self._sync

    def close(self) -> None:
        """Close the synchronous connection."""
        if self._sync is not None:
            self._sync.close()
            self._sync = None

    async def open_async(self, pool: Any = None) -> None:
        """Open for asynchronous and synchronous use. No connection is made yet."""
        self.open(pool)
        if self._async is None:
            engine = psycopg_async_engine(self._connect_args, pool_size=_ASYNC_CONNECTIONS, **_OPTIONS)
            answer_timeout.watch_connections(engine.sync_engine)
            self._async = AsyncEngineRunner(engine, owned=True, pinned=True)

    async def close_async(self) -> None:
        """Close all connections."""
        self.close()
        if self._async is not None:
            runner, self._async = self._async, None
            await runner.close()

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation from any thread."""
        runner = self._sync_runner()
        with worker_observers.around_statements():
            return answer_timeout.run(runner.run, operation, *args, **kwargs)

    async def run_async(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation in the event loop that opened the connector."""
        if self._async is None:
            raise exceptions.AppNotOpen
        with worker_observers.around_statements():
            return await answer_timeout.run_async(self._async.run, operation, *args, **kwargs)

    def describe_database(self) -> str:
        """Return host, port, database and user. A function that gives the parameters is not called."""
        return repr(self._connect_args)

    def get_worker_connector(self) -> WorkerConnector:
        """Return another connector. An app may use this one, and its deferring tasks must not delay heartbeats."""
        return WorkerConnector(
            self._given,
            listen_connect_args=self._listen_connect_args,
            json_dumps=self.json_dumps,
            json_loads=self.json_loads,
        )

    async def listen_notify(
        self,
        on_notification: Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        """Listen on the channels until cancelled, on a separate connection.

        A server that stops answering is detected within half a minute.
        """
        if self._async is None:
            raise exceptions.AppNotOpen
        with worker_observers.around_statements():
            await listen(self._listening_args, on_notification, channels, on_listening)


def _prepares_marked(parameters: dict[str, Any]) -> dict[str, Any]:
    """Prepare the marked statements and no others, unless the user sets ``prepare_threshold``.

    PostgreSQL may keep a plan that it made while the table was empty. Such a plan recorded 800 outcomes in 140 ms
    instead of 13 ms. A marked statement has the same plan at every size.
    """
    return {"prepare_threshold": MARKED_ONLY, **parameters}


def _refuse_engine(pool: Any) -> None:
    if pool is not None:
        raise TypeError("A worker's connector makes its own engines: open it without a pool or an engine")
