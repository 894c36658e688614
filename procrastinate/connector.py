"""Connectors: they supply a database connection and run operations of :mod:`procrastinate.core` on it."""

from __future__ import annotations

import asyncio
import importlib
import json
import weakref
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate._fork_locks import fork_lock
from procrastinate._raw_queries import RawQueries

P = ParamSpec("P")
R = TypeVar("R")

Operation = Callable[Concatenate[sa.Connection, P], R]
"""A function of :mod:`procrastinate.core`, whose first argument is the connection."""


class Notify(Protocol):
    """Callback for each notification."""

    def __call__(self, *, channel: str, payload: str) -> Awaitable[None]: ...


class BaseConnector(RawQueries):
    """Runs operations on database connections.

    ``run`` and ``run_async`` use the connector's own connection. An operation marked
    :func:`~procrastinate.core.operation_marks.atomic` gets a transaction, and other operations run in autocommit.
    ``run_on`` and ``run_on_async`` use an open connection of the user, and neither begin nor commit a transaction.

    Parameters
    ----------
    json_dumps, json_loads:
        Functions that encode job arguments as JSON text and decode it. The defaults come from :mod:`json`.
        :mod:`procrastinate.json` has a pair for UUIDs, dates, decimals, enums, dataclasses and pydantic models.
    """

    def __init__(
        self,
        *,
        json_dumps: Callable[[Any], str] | None = None,
        json_loads: Callable[[str], Any] | None = None,
    ) -> None:
        self.json_dumps: Callable[[Any], str] = json_dumps or json.dumps
        self.json_loads: Callable[[str], Any] = json_loads or json.loads

    def open(self, pool: Any = None) -> None:
        """Prepare for synchronous use, optionally on an engine or pool of the user, which the user closes."""

    def close(self) -> None:
        """Close the connections that :meth:`open` made."""

    async def open_async(self, pool: Any = None) -> None:
        """Prepare for asynchronous use, optionally on an engine or pool of the user, which the user closes."""

    async def close_async(self) -> None:
        """Close the connections that :meth:`open_async` made."""

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation from synchronous code.

        Raises
        ------
        AppNotOpen
            The connector is not open.
        ConnectorException
            The database refused the operation, or cannot be reached.
        """
        raise exceptions.SyncConnectorConfigurationError

    async def run_async(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Asynchronous version of :meth:`run`."""
        raise NotImplementedError

    def brief_use(self) -> AbstractAsyncContextManager[None]:
        """Return a block for operations of asynchronous code after which no connection stays open that they open."""
        return nullcontext()

    def run_on(self, connection: Any, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on the user's open connection, inside the user's transaction.

        Raises
        ------
        TypeError
            The connector cannot use a connection of that kind.
        """
        raise TypeError(self._why_no_connection())

    async def run_on_async(self, connection: Any, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Asynchronous version of :meth:`run_on`."""
        raise TypeError(self._why_no_connection())

    def _why_no_connection(self) -> str:
        """Return why :meth:`run_on` refuses every connection, with the way out."""
        return f"{type(self).__name__} takes no connection=: it uses its own connection"

    def transaction(
        self, bind: Any, last: Callable[[], Operation[[], None]]
    ) -> AbstractContextManager[Any] | AbstractAsyncContextManager[Any]:
        """Return a context manager for a transaction of the user, which commits at the end of the block.

        Parameters
        ----------
        bind:
            The engine, connection, session or sessionmaker, as in
            :func:`~procrastinate._transactions.transaction_on`. ``None`` means the connector's own connection, if user
            code shares it.
        last:
            Called at the end of the block. It returns the operation to run right before the commit. If that operation
            raises, the transaction is rolled back.

        Raises
        ------
        TypeError
            The connector cannot use ``bind``.
        """
        if bind is None:
            raise TypeError(
                "context.transaction() without an argument is for Django: give it your Engine or sessionmaker (or "
                "AsyncEngine, or async_sessionmaker)"
            )
        from procrastinate._transactions import transaction_on  # it loads SQLAlchemy's ORM

        return transaction_on(
            bind, lambda opened: self.run_on(opened, last()), lambda opened: self.run_on_async(opened, last())
        )

    async def listen_notify(
        self,
        on_notification: Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        """Listen on these channels until cancelled, on a separate connection.

        Parameters
        ----------
        on_listening:
            Called once the connection listens on all channels. Earlier notifications are lost.

        Raises
        ------
        ConnectorException
            The connection was lost.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot listen for notifications")

    def get_sync_connector(self) -> BaseConnector:
        """Return this connector, which serves synchronous code as well. Programs of 3.x call it."""
        return self

    def get_primary_connector(self) -> BaseConnector:
        """Return the connector whose answers are never those of a replica, which is this one by default."""
        return self

    def describe_database(self) -> str:
        """Return the address of the database for people, without a password."""
        return repr(self)

    def get_worker_connector(self) -> BaseConnector:
        """Return the connector for a worker, with a separate engine for the same database."""
        return self


class Openings:
    """What keeps a connector open: for synchronous code, or in one event loop.

    A block (``with app.open():``) keeps it open until its own end. Two threads or two asyncio tasks may have a block at
    the same time, and a function that is called in a block may have one. A call of ``app.open()`` alone keeps it open
    until ``app.close()``.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._blocks = 0

    def open(self, connector: BaseConnector, pool: Any) -> None:
        """Open for synchronous code, by a call or at the start of a block."""
        with _openings_lock:
            connector.open(pool)
            self._calls += 1

    def enter_block(self) -> None:
        """Count the last call as the start of a block."""
        with _openings_lock:
            self._calls = max(self._calls - 1, 0)
            self._blocks += 1

    def leave_block(self, connector: BaseConnector) -> None:
        """Close after the last block, unless a call keeps the connector open."""
        with _openings_lock:
            if self._leave():
                connector.close()

    def close(self, connector: BaseConnector) -> None:
        """Close now."""
        with _openings_lock:
            self._calls = 0
            connector.close()

    async def open_async(self, connector: BaseConnector, pool: Any) -> None:
        """Open in this event loop, by a call."""
        await connector.open_async(pool)
        self._calls += 1

    async def enter_block_async(self, connector: BaseConnector, pool: Any) -> None:
        """Open at the start of a block. It counts before it opens, so that the end of another one does not close."""
        self._blocks += 1
        try:
            await connector.open_async(pool)
        except BaseException:
            self._blocks -= 1
            raise

    async def leave_block_async(self, connector: BaseConnector) -> None:
        """Close after the last block in this event loop, unless a call keeps the connector open."""
        if self._leave():
            await connector.close_async()

    async def close_async(self, connector: BaseConnector) -> None:
        """Close in this event loop now."""
        self._calls = 0
        await connector.close_async()

    def _leave(self) -> bool:
        self._blocks = max(self._blocks - 1, 0)
        return self._blocks == 0 and self._calls == 0


_openings_lock = fork_lock()
_openings: weakref.WeakKeyDictionary[BaseConnector, Openings] = weakref.WeakKeyDictionary()
_openings_in_loops: weakref.WeakKeyDictionary[
    BaseConnector, weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Openings]
] = weakref.WeakKeyDictionary()


def openings_of(connector: BaseConnector) -> Openings:
    """Return what keeps a connector open for synchronous code."""
    with _openings_lock:
        return _openings.setdefault(connector, Openings())


def openings_in_loop(connector: BaseConnector) -> Openings:
    """Return what keeps a connector open in the running event loop."""
    with _openings_lock:
        of_loops = _openings_in_loops.setdefault(connector, weakref.WeakKeyDictionary())
        return of_loops.setdefault(asyncio.get_running_loop(), Openings())


def as_connector(value: Any) -> BaseConnector:
    """Return the connector for a value given as ``connector=``.

    Raises
    ------
    TypeError
        The value is no connector, and no connector can be made of it.
    """
    if isinstance(value, BaseConnector):
        return value
    # The adapter is imported by its name. Programs with another connector need not load it, and the seam knows none.
    connector: BaseConnector = importlib.import_module(_MADE_BY).connector_for(value)
    return connector


_MADE_BY = "procrastinate.adapters.standalone"
"""The adapter that makes connectors of database URLs and engines."""

BaseAsyncConnector = BaseConnector
"""Name of the base class of asynchronous connectors in 3.x. Every connector is asynchronous now."""
