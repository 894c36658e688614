"""The seam: a connector runs operations of :mod:`procrastinate.core` on the connection that it supplies."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate._raw_queries import RawQueries
from procrastinate._transactions import transaction_on

P = ParamSpec("P")
R = TypeVar("R")

Operation = Callable[Concatenate[sa.Connection, P], R]
"""A function of :mod:`procrastinate.core`: its first argument is the connection."""


class Notify(Protocol):
    """What is called for each notification that arrives."""

    def __call__(self, *, channel: str, payload: str) -> Awaitable[None]: ...


class BaseConnector(RawQueries):
    """Answers one question: run this operation on your connection.

    ``run`` and ``run_async`` use the connector's own connection; an operation marked
    :func:`~procrastinate.core.operation_marks.atomic` gets a transaction, the others run in autocommit.
    ``run_on`` and ``run_on_async`` use an open connection of the user's, and neither begin nor commit on it.

    Parameters
    ----------
    json_dumps, json_loads:
        How job arguments become JSON text and back; those of :mod:`json` by default.
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
        """Make ready for synchronous use, optionally on an engine or pool of the user's, who closes it."""

    def close(self) -> None:
        """Let go of the connections that :meth:`open` made."""

    async def open_async(self, pool: Any = None) -> None:
        """Make ready for asynchronous use, optionally on an engine or pool of the user's."""

    async def close_async(self) -> None:
        """Let go of the connections that :meth:`open_async` made."""

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation from synchronous code.

        Raises
        ------
        AppNotOpen
            The connector was not opened.
        ConnectorException
            The database refused, or cannot be reached.
        """
        raise exceptions.SyncConnectorConfigurationError

    async def run_async(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation from asynchronous code; raises as :meth:`run`."""
        raise NotImplementedError

    def run_on(self, connection: Any, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on the user's open connection, inside the user's transaction.

        Raises
        ------
        TypeError
            The connector cannot use a connection of that kind.
        """
        raise TypeError(f"{type(self).__name__} takes no connection=: it uses its own connection")

    async def run_on_async(self, connection: Any, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As :meth:`run_on`, from asynchronous code."""
        raise TypeError(f"{type(self).__name__} takes no connection=: it uses its own connection")

    def transaction(
        self, bind: Any, last: Callable[[], Operation[[], None]]
    ) -> AbstractContextManager[Any] | AbstractAsyncContextManager[Any]:
        """A transaction of the user's that is committed at the end of the block.

        Parameters
        ----------
        bind:
            What opens it, as in :func:`~procrastinate._transactions.transaction_on`; ``None``: the connector's own
            connection, where user code shares it.
        last:
            Called at the end of the block: the operation to run right before the commit. Where that raises, all is
            rolled back.

        Raises
        ------
        TypeError
            The connector cannot use what is given.
        """
        if bind is None:
            raise TypeError(
                "context.transaction() without an argument is for Django: give it your Engine or sessionmaker (or "
                "AsyncEngine, or async_sessionmaker)"
            )
        return transaction_on(
            bind, lambda opened: self.run_on(opened, last()), lambda opened: self.run_on_async(opened, last())
        )

    async def listen_notify(
        self,
        on_notification: Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        """Listen on these channels until cancelled, on a connection of its own.

        Parameters
        ----------
        on_listening:
            Called once all channels are listened to: what was notified before was not heard.

        Raises
        ------
        ConnectorException
            The connection was lost.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot listen for notifications")

    def get_sync_connector(self) -> BaseConnector:
        """The connector to use from synchronous code: this one."""
        return self

    def get_worker_connector(self) -> BaseConnector:
        """The connector on which a worker runs: an engine of its own, to the same database."""
        return self


@functools.singledispatch
def as_connector(value: Any) -> BaseConnector:
    """The connector for a value given as ``connector=``. Adapters register the types that they can use."""
    raise TypeError(
        f"connector= takes a connector, a database URL, an Engine or an AsyncEngine, not {type(value).__name__}"
    )


@as_connector.register
def _(value: BaseConnector) -> BaseConnector:
    return value


BaseAsyncConnector = BaseConnector
"""The name that 3.x had for connectors that serve asynchronous code: all do."""
