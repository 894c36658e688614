"""Read lists, statistics and pages from a replica: ``App(connector=..., read_connector=...)``."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate._checks.amounts import read_seconds
from procrastinate._durations import duration
from procrastinate._fork_locks import fork_lock
from procrastinate._text.logs import get_logger
from procrastinate.connector import BaseConnector, Notify, Operation, P, R, as_connector
from procrastinate.core.errors import STATEMENT_TIMEOUT, sqlstate
from procrastinate.core.operation_marks import is_allowed_to_lag
from procrastinate.core.replicas import measure_lag, reach

logger = get_logger(__name__)

_MEASURE_EVERY = 1.0
"""Seconds between two looks at how far the replica is behind."""
_TRY_AGAIN_AFTER = 5.0
"""Seconds during which a replica that could not be reached is left alone. Each try may take a connection timeout."""


class ReadReplica:
    """A replica for an app to read from, as ``App(connector=..., read_connector=ReadReplica(...))``.

    Parameters
    ----------
    connector:
        A connector, a database URL, or a SQLAlchemy ``Engine`` or ``AsyncEngine`` that leads to the replica. A role
        that may only read is enough. The app opens and closes it.
    max_lag:
        Seconds that the replica may be behind. A replica that is further behind is not read. ``None`` reads it however
        old it is, for servers that do not tell.
    fall_back:
        If true, the primary answers while the replica is behind or away, and the log says so once. If false, such a
        read raises, so that the primary never gets the load of the replica.

    Raises
    ------
    TypeError, ValueError
        ``connector`` cannot be used, or ``max_lag`` is no number of seconds.
    """

    def __init__(self, connector: Any, *, max_lag: float | None = 10.0, fall_back: bool = True) -> None:
        self.connector = as_connector(connector)
        self.max_lag = None if max_lag is None else read_seconds("max_lag", max_lag)
        self.fall_back = fall_back


def with_replica(primary: BaseConnector, replica: Any) -> BaseConnector:
    """Return a connector that reads from a replica what may lag, and does everything else on the primary.

    Parameters
    ----------
    replica:
        A :class:`ReadReplica`, or what one takes.
    """
    if not isinstance(replica, ReadReplica):
        replica = ReadReplica(replica)
    return ReplicatedConnector(primary, replica.connector, _Watch(replica.max_lag, fall_back=replica.fall_back))


class _Watch:
    """Knows whether the replica may be read now. All threads and event loops of a process share one."""

    def __init__(self, max_lag: float | None, *, fall_back: bool) -> None:
        self.look: Callable[[sa.Connection], float | None] = reach if max_lag is None else measure_lag
        """Operation that says how many seconds the replica is behind."""
        self._max_lag = max_lag
        self._fall_back = fall_back
        self._mutex = fork_lock()
        self._next_look = -math.inf
        self._is_known = False
        self._problem: exceptions.DatabaseUnavailable | None = None
        self._refusal = ""
        """The last refusal that the log has. A missing privilege would refuse each read."""

    def is_time_to_look(self) -> bool:
        """Return whether the caller is to run :attr:`look`. Others go by the last answer until then."""
        now = time.monotonic()
        with self._mutex:
            if self._is_known and now < self._next_look:
                return False
            self._next_look = now + _MEASURE_EVERY
            return True

    def note_lag(self, lag: float | None) -> None:
        """Take note of how many seconds the replica is behind."""
        is_new_enough = self._max_lag is None or (lag is not None and lag <= self._max_lag)
        self._decide(None if is_new_enough else exceptions.ReplicaBehind(_behind(lag)))

    @property
    def is_fit(self) -> bool:
        """True unless the replica is too far behind, or could not be reached a moment ago."""
        return self._problem is None

    def note_error(self, error: exceptions.ConnectorException) -> None:
        """Take note of an error of the replica. Raise it if the primary is not to be asked.

        A query that took too long on the replica would take as long on the primary.
        """
        if isinstance(error, exceptions.DatabaseUnavailable):
            self._decide(error, look_again_after=_TRY_AGAIN_AFTER)
        elif self._fall_back and sqlstate(error) != STATEMENT_TIMEOUT:
            self._tell_refusal(error)
        else:
            raise error

    def _tell_refusal(self, error: exceptions.ConnectorException) -> None:
        level = logging.DEBUG if str(error) == self._refusal else logging.WARNING
        self._refusal = str(error)
        message = "The replica refused a read, and the primary answers it. %s"
        logger.log(level, message, error, extra={"action": "replica_refused"})

    def require_fall_back(self) -> None:
        """Refuse to read from the primary if the app said so.

        Raises
        ------
        ReplicaBehind
            The replica is too far behind.
        DatabaseUnavailable
            The replica could not be reached.
        """
        if not self._fall_back:
            problem = self._problem or exceptions.DatabaseUnavailable("The replica could not be read a moment ago")
            raise type(problem)(str(problem))

    def _decide(self, problem: exceptions.DatabaseUnavailable | None, look_again_after: float = _MEASURE_EVERY) -> None:
        with self._mutex:
            before, self._problem = self._problem, None if problem is None else type(problem)(str(problem))
            self._is_known = True
            self._next_look = time.monotonic() + look_again_after
        if problem is not None and type(before) is not type(problem):
            consequence = "The primary answers its reads" if self._fall_back else "Its reads fail"
            logger.warning(f"The replica is not read. {consequence}. {problem}", extra={"action": "replica_out"})
        elif problem is None and before is not None:
            logger.info("The replica answers reads again", extra={"action": "replica_back"})


def _behind(lag: float | None) -> str:
    by = "an unknown time" if lag is None else duration(lag)
    return f"The replica is {by} behind the primary"


class ReplicatedConnector(BaseConnector):
    """Runs the operations that may lag on a replica, and all others on the primary.

    Workers, defers, changes and operations on a connection of the user know nothing of the replica.

    Parameters
    ----------
    primary:
        The connector for everything else.
    replica:
        The connector for what may lag.
    watch:
        Knows whether the replica may be read now.
    """

    def __init__(self, primary: BaseConnector, replica: BaseConnector, watch: _Watch) -> None:
        super().__init__(json_dumps=primary.json_dumps, json_loads=primary.json_loads)
        self.primary = primary
        self.replica = replica
        self._watch = watch

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.primary!r}, {self.replica!r})"

    def open(self, pool: Any = None) -> None:
        """Open both for synchronous use. The pool or engine is for the primary."""
        self.primary.open(pool)
        try:
            self.replica.open()
        except BaseException:
            self.primary.close()
            raise

    def close(self) -> None:
        """Close both."""
        try:
            self.replica.close()
        finally:
            self.primary.close()

    async def open_async(self, pool: Any = None) -> None:
        """Open both for asynchronous use. The pool or engine is for the primary."""
        await self.primary.open_async(pool)
        try:
            await self.replica.open_async()
        except BaseException:
            await self.primary.close_async()
            raise

    async def close_async(self) -> None:
        """Close both."""
        try:
            await self.replica.close_async()
        finally:
            await self.primary.close_async()

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on the replica if it may lag and the replica is fit, otherwise on the primary.

        Raises
        ------
        ReplicaBehind, DatabaseUnavailable
            The replica is too far behind or away, and the primary is not to be asked.
        ConnectorException
            The database refused the operation, or cannot be reached.
        """
        if is_allowed_to_lag(operation):
            try:
                if self._watch.is_time_to_look():
                    self._watch.note_lag(self.replica.run(self._watch.look))
                if self._watch.is_fit:
                    return self.replica.run(operation, *args, **kwargs)
            except exceptions.ConnectorException as error:
                self._watch.note_error(error)
            self._watch.require_fall_back()
        return self.primary.run(operation, *args, **kwargs)

    async def run_async(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Asynchronous version of :meth:`run`."""
        if is_allowed_to_lag(operation):
            try:
                if self._watch.is_time_to_look():
                    self._watch.note_lag(await self.replica.run_async(self._watch.look))
                if self._watch.is_fit:
                    return await self.replica.run_async(operation, *args, **kwargs)
            except exceptions.ConnectorException as error:
                self._watch.note_error(error)
            self._watch.require_fall_back()
        return await self.primary.run_async(operation, *args, **kwargs)

    def run_on(self, connection: Any, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on the user's connection, as the primary's connector does."""
        return self.primary.run_on(connection, operation, *args, **kwargs)

    async def run_on_async(self, connection: Any, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Asynchronous version of :meth:`run_on`."""
        return await self.primary.run_on_async(connection, operation, *args, **kwargs)

    def transaction(
        self, bind: Any, last: Callable[[], Operation[[], None]]
    ) -> AbstractContextManager[Any] | AbstractAsyncContextManager[Any]:
        """Return the transaction of the primary's connector."""
        return self.primary.transaction(bind, last)

    async def listen_notify(
        self,
        on_notification: Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        """Listen on the primary. A replica sends no notifications."""
        await self.primary.listen_notify(on_notification, channels, on_listening)

    def describe_database(self) -> str:
        """Return the addresses of both, without passwords."""
        return f"{self.primary.describe_database()}, reads from {self.replica.describe_database()}"

    def get_primary_connector(self) -> BaseConnector:
        """Return the connector that never reads from the replica."""
        return self.primary

    def get_worker_connector(self) -> BaseConnector:
        """Return the connector for a worker, which uses the primary only."""
        return self.primary.get_worker_connector()
