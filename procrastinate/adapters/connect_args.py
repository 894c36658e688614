"""What psycopg connects with: known from the start, or asked for whenever a connection is made.

A password may live for minutes only (a token of RDS or of Azure). A connection that is made an hour after the start
needs another one than the first.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeAlias

from procrastinate import exceptions
from procrastinate.adapters.connection_parameters import connection_parameters, describe

Fixed: TypeAlias = Mapping[str, Any] | str
"""A connection string, or arguments of :func:`psycopg.connect`."""

Given: TypeAlias = Fixed | Callable[[], Fixed]


class ConnectArgs:
    """The arguments of :func:`psycopg.connect`.

    Parameters
    ----------
    given:
        The arguments, or a function that returns them.
    complete:
        Makes the arguments of what is given.

    Raises
    ------
    TypeError, ValueError
        What is given cannot be read. The message does not repeat it: it may hold a password.
    """

    def __init__(self, given: Given, complete: Callable[[Fixed], dict[str, Any]] = connection_parameters) -> None:
        self._given = given
        self._complete = complete
        self._known = None if callable(given) else complete(given)

    def __repr__(self) -> str:
        return describe(self._known) if self._known is not None else "asked for each connection"

    @property
    def is_fixed(self) -> bool:
        """Whether they are the same for all connections."""
        return self._known is not None

    def changed(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> ConnectArgs:
        """The same, after a change, which is made whenever they are asked for."""
        return ConnectArgs(self._given, lambda given: change(self._complete(given)))

    def ask(self) -> dict[str, Any]:
        """The arguments for a connection that is made now.

        Raises
        ------
        DatabaseUnavailable
            The function that was given has raised. It is asked again for the next connection.
        TypeError, ValueError
            The function returned something that cannot be read.
        """
        if self._known is not None:
            return self._known
        assert callable(self._given)
        try:
            given: Any = self._given()
        except Exception as error:
            raise exceptions.DatabaseUnavailable(
                f"What to connect with cannot be had: the function that was given raised {type(error).__name__}"
            ) from error
        if inspect.isawaitable(given):
            if inspect.iscoroutine(given):
                given.close()  # or Python would warn that it was not awaited
            raise TypeError("The function that gives the connection parameters must be a plain one, not asynchronous")
        return self._complete(given)

    async def ask_async(self) -> dict[str, Any]:
        """As :meth:`ask`. A function runs in a thread: it may ask a server for a token.

        The thread is no thread of the loop's default executor, which a job may fill or shut down.
        """
        return self.ask() if self._known is not None else await _in_thread(self.ask)


async def _in_thread(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    future: Future[dict[str, Any]] = Future()
    future.set_running_or_notify_cancel()  # it cannot be cancelled from now on

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
    return await asyncio.wrap_future(future)
