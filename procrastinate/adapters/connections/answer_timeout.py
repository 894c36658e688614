"""Timeouts for a server that no longer answers.

psycopg waits for an answer without a limit. Cancelling the wait does not end it: psycopg asks the server to cancel, and
an unreachable server does not answer that either. Shutting down the socket ends any wait at once, from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg import pq

from procrastinate import exceptions
from procrastinate._durations import setting
from procrastinate._long_waits import Silence
from procrastinate._text.logs import get_logger
from procrastinate.adapters.connections.timer_thread import call_later
from procrastinate.connector import Operation

logger = get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

ANSWER_TIMEOUT = 30.0
"""Seconds that the server has to answer a worker's operation. One takes milliseconds and can be retried."""

CANCEL_TIMEOUT = 2.0
"""Seconds that the server has to answer a cancelled operation."""

_SHORTEST_PAUSE = 0.01


def cut(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Shut down a connection's socket. Any wait for the server then ends with an end-of-file error."""
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as stream,
    ):
        stream.shutdown(socket.SHUT_RDWR)


def give_up(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Cut a connection and ask the server to cancel the running statement.

    A server that waits for a lock does not notice that its client is gone. It would keep waiting, and each retry of the
    worker would add one more server process until no connection is left. The server may not answer the cancel
    request either, so a thread waits for it. Without libpq 17 the request would block all threads and is left out.
    """
    try:
        if psycopg.capabilities.has_cancel_safe():
            request = connection.pgconn.cancel_conn()
            threading.Thread(target=_send, args=(request,), name="procrastinate-cancel", daemon=True).start()
    except (psycopg.Error, RuntimeError):
        pass  # the connection is closed already, or no thread can start
    finally:
        cut(connection)


def _send(request: pq.abc.PGcancelConn) -> None:
    """Send a cancel request. Wait up to :data:`CANCEL_TIMEOUT` seconds for each step."""
    events = {pq.PollingStatus.READING: selectors.EVENT_READ, pq.PollingStatus.WRITING: selectors.EVENT_WRITE}
    with contextlib.ExitStack() as stack:
        stack.callback(request.finish)
        stack.enter_context(contextlib.suppress(psycopg.Error, OSError))
        request.start()
        while (event := events.get(pq.PollingStatus(request.poll()))) is not None:
            with selectors.DefaultSelector() as selector:
                selector.register(request.socket, event)
                if not selector.select(CANCEL_TIMEOUT):
                    return


class Cancellable(Protocol):
    """A timer that can be cancelled."""

    def cancel(self) -> object:
        """Cancel the call."""


class Wait:
    """The wait for one operation on a psycopg connection. A long wait is logged, and cut at the end.

    Parameters
    ----------
    call_later:
        Calls a function after a number of seconds and returns the timer.
    what:
        The name of the operation.
    """

    def __init__(self, call_later: Callable[[float, Callable[[], None]], Cancellable], what: str) -> None:
        self._call_later = call_later
        self._what = what
        self._connection: Any = None
        self._silence = Silence()
        self._since = time.monotonic()
        self._connected_at: float | None = None
        self._ended = False
        self._expired = False
        self._timer = call_later(min(self._silence.until, ANSWER_TIMEOUT), self._look)

    def begin(self, connection: Any) -> None:
        """Start the timer, if it does not run yet, and cut this connection when it expires."""
        self._connection = connection
        if self._connected_at is None:
            self._connected_at = time.monotonic()

    def end(self) -> None:
        """Stop the timer, after an answer or an error."""
        self._ended = True
        self._timer.cancel()

    def cut(self) -> None:
        """Cut the connection, if there is one."""
        if self._connection is not None:
            cut(self._connection)

    def explain(self, error: exceptions.ConnectorException) -> None:
        """Raise ``DatabaseUnavailable`` from the error if the timer has expired."""
        if self._expired:
            message = f"The database has not answered for {setting(ANSWER_TIMEOUT)}"
            raise exceptions.DatabaseUnavailable(message) from error

    def _look(self) -> None:
        """Say what is waited for, and cut the connection off in time. May still come after :meth:`end`."""
        if self._ended:
            return
        now = time.monotonic()
        rest = ANSWER_TIMEOUT if self._connected_at is None else self._connected_at + ANSWER_TIMEOUT - now
        if rest <= 0:
            self._expire()
            return
        waited = now - self._since
        if self._silence.is_over(waited):
            self._speak(waited)
        pause = max(self._silence.until - waited, _SHORTEST_PAUSE)
        self._timer = self._call_later(min(pause, rest), self._look)

    def _speak(self, waited: float) -> None:
        message = "The database has not answered for %.0f s (%s)"
        if self._connection is None:
            message = "There has been no connection to the database for %.0f s (%s)"
        with contextlib.suppress(BaseException):  # a log handler that raises must not end the watch
            logger.warning(message, waited, self._what, extra={"action": "database_awaited", "operation": self._what})

    def _expire(self) -> None:
        self._expired = True
        if self._connection is not None:
            give_up(self._connection)


_current: contextvars.ContextVar[Wait] = contextvars.ContextVar("current")


def watch_connections(engine: sa.Engine) -> None:
    """Tell the current :class:`Wait` which connection it uses.

    A new connection is reported before SQLAlchemy's first query to the server. A pooled connection is reported at
    checkout, before ``BEGIN``.
    """

    def begin_wait(_dbapi_connection: Any, record: Any, _proxy: Any = None) -> None:
        wait = _current.get(None)
        if wait is not None:
            wait.begin(record.driver_connection)

    sa.event.listen(engine, "connect", begin_wait, insert=True)
    sa.event.listen(engine, "checkout", begin_wait)


def run(runner: Callable[..., R], operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run an operation with ``runner``, from a thread, on a watched engine. Limit the wait for the server."""
    wait = Wait(call_later, _name(operation))
    token = _current.set(wait)
    try:
        return runner(operation, *args, **kwargs)
    except exceptions.ConnectorException as error:
        wait.explain(error)
        raise
    finally:
        _current.reset(token)
        wait.end()


async def run_async(runner: Callable[..., Any], operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run an operation like :func:`run`, in an event loop. If cancelled, end soon whatever the server does."""
    wait = Wait(asyncio.get_running_loop().call_later, _name(operation))
    context = contextvars.copy_context()
    context.run(_current.set, wait)
    running: asyncio.Task[R] = asyncio.create_task(runner(operation, *args, **kwargs), context=context)
    try:
        await asyncio.wait({running})
    finally:
        if not running.done():
            await _abandon(wait, running)
        wait.end()
    try:
        return running.result()
    except exceptions.ConnectorException as error:
        wait.explain(error)
        raise


def _name(operation: Callable[..., Any]) -> str:
    return getattr(operation, "__name__", "an operation")


async def _abandon(wait: Wait, running: asyncio.Task[Any]) -> None:
    """Cancel an operation and wait for its end, even if cancelled again: only its own cleanup closes the connection."""
    running.cancel()
    timeout: float | None = CANCEL_TIMEOUT
    cancelled_again = False
    while not running.done():
        try:
            await asyncio.wait({running}, timeout=timeout)
        except asyncio.CancelledError:
            cancelled_again = True
        if not running.done():
            wait.cut()
            timeout = None
    if not running.cancelled():
        running.exception()
    if cancelled_again:
        raise asyncio.CancelledError
