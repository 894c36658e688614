"""psycopg's connection arguments: fixed, or requested from a function for each new connection.

A password may expire within minutes (an RDS or Azure token). A connection made an hour after the start then needs a new
one.
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
from procrastinate.adapters.connections.conninfo import connection_parameters, describe

Fixed: TypeAlias = Mapping[str, Any] | str
"""A connection string, or arguments of :func:`psycopg.connect`."""

Given: TypeAlias = Fixed | Callable[[], Fixed]


class ConnectArgs:
    """The arguments of :func:`psycopg.connect`.

    Parameters
    ----------
    given:
        A connection string or arguments, or a function that returns either.
    complete:
        Converts ``given`` into a dictionary of arguments.
    described:
        The text of the ``repr`` if ``given`` is a function. By default it says that a function gives the arguments.

    Raises
    ------
    TypeError, ValueError
        ``given`` cannot be parsed. The message does not repeat it, because it may contain a password.
    """

    def __init__(
        self,
        given: Given,
        complete: Callable[[Fixed], dict[str, Any]] = connection_parameters,
        described: str | None = None,
    ) -> None:
        self._given = given
        self._complete = complete
        self._known = None if callable(given) else complete(given)
        self._described = described if self._known is None else describe(self._known)

    def __repr__(self) -> str:
        if self._described is None:
            return "the database that a function names"
        return self._described or "the database of libpq's environment variables"

    @property
    def is_fixed(self) -> bool:
        """True if all connections use the same arguments."""
        return self._known is not None

    def changed(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> ConnectArgs:
        """Return a copy that applies ``change`` each time the arguments are requested."""
        return ConnectArgs(self._given, lambda given: change(self._complete(given)), self._described)

    def ask(self) -> dict[str, Any]:
        """Return the arguments for a new connection.

        Raises
        ------
        DatabaseUnavailable
            The user's function raised. The next connection calls it again.
        TypeError, ValueError
            The function returned a value that cannot be parsed.
        """
        if self._known is not None:
            return self._known
        assert callable(self._given)
        try:
            given: Any = self._given()
        except Exception as error:
            raise _unavailable(error) from error
        if inspect.isawaitable(given):
            if inspect.iscoroutine(given):
                given.close()  # otherwise Python warns that it was never awaited
            raise TypeError("The function that returns the connection parameters must not be asynchronous")
        return self._complete(given)

    async def ask_async(self) -> dict[str, Any]:
        """Return the arguments like :meth:`ask`, but call a function in a thread: it may request a token from a server.

        The thread is not from the loop's default executor, because a job may fill or shut down that one.
        """
        return self.ask() if self._known is not None else await _in_thread(self.ask)


def _unavailable(error: BaseException) -> exceptions.DatabaseUnavailable:
    return exceptions.DatabaseUnavailable(
        f"There are no connection parameters: the function that returns them raised {type(error).__name__}"
    )


async def _in_thread(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    future: Future[dict[str, Any]] = Future()
    future.set_running_or_notify_cancel()  # from here on it cannot be cancelled

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)
        except BaseException as error:  # asyncio would let an exit out of the event loop
            future.set_exception(_unavailable(error))

    try:
        threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
    except RuntimeError as error:  # the system refuses a thread
        raise _unavailable(error) from error
    return await asyncio.wrap_future(future)
