"""An in-memory connector for tests, in which jobs behave as in a database."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import functools
import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from procrastinate import core
from procrastinate._checks.times import utcnow
from procrastinate._fork_locks import fork_lock
from procrastinate.connector import BaseConnector, Notify, Operation, P, R
from procrastinate.core import Status
from procrastinate.testing import (
    job_reports,
    limits,
    pauses,
    queue,
    refused_rows,
    unique,
    upkeep,
    workers,
    workflow_views,
    workflows,
)
from procrastinate.testing.implementations import Implementations, unwrapped
from procrastinate.testing.rows import DOING, EventRow, JobRow
from procrastinate.testing.tables import Tables

_PARTS = (job_reports, limits, pauses, queue, refused_rows, unique, upkeep, workers, workflow_views, workflows)
IMPLEMENTED = Implementations({name: form for part in _PARTS for name, form in part.IMPLEMENTED.items()})

_WRAPPERS = (core.briefly, core.without_hand_over)
"""Operations that run another one in a certain way. In memory, each is the operation that it wraps."""

_signature = functools.cache(inspect.signature)
_FINISHED = (Status.SUCCEEDED.value, Status.FAILED.value)


_QUERIES_OF_3X = frozenset(
    {
        "apply_schema_run", "cancel_job_one", "check_connection_one", "defer_jobs_all", "defer_periodic_job_one",
        "delete_old_jobs_run", "fetch_job_one", "finish_job_run", "generic_execute", "get_job_status_one",
        "list_jobs_all", "list_jobs_to_abort_all", "list_locks_all", "list_queues_all", "list_tasks_all",
        "listen_for_jobs_run",
        "make_dynamic_query", "prune_stalled_workers_all", "register_worker_one", "retry_job_run",
        "select_stalled_jobs_by_heartbeat_all", "select_stalled_jobs_by_started_all", "set_job_status_run",
        "unregister_worker_run", "update_heartbeat_run",
    }
)  # fmt: skip
"""Methods by which the connector of 3.x answers its queries."""


@dataclasses.dataclass(frozen=True)
class Listener:
    """Passes notifications from any thread to the event loop that waits for them."""

    channels: frozenset[str]
    loop: asyncio.AbstractEventLoop
    heard: asyncio.Queue[tuple[str, str]]

    def tell(self, channel: str, payload: str) -> None:
        if channel in self.channels:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the listener is gone
                self.loop.call_soon_threadsafe(self.heard.put_nowait, (channel, payload))


class _Block:
    """A block that calls a function at its end unless it raised. For ``with`` and ``async with``."""

    def __init__(self, finish: Callable[[], None]) -> None:
        self._finish = finish

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is None:
            self._finish()

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self.__exit__(kind, error, traceback)


class InMemoryConnector(BaseConnector):
    """Keeps jobs in memory, for tests without a database::

        with app.replace_connector(InMemoryConnector()) as app:
            my_task.defer(a=1)
            app.run_worker(wait=False)

    Every operation behaves as it does in the database, and the same tests run on both. The exception is transactions:
    nothing is rolled back, and ``connection=`` is ignored. The connector need not be opened and is thread-safe.

    Parameters
    ----------
    json_dumps, json_loads:
        Functions that convert job arguments to JSON text and back, by default those of :mod:`json`.
    clock:
        Returns the time as an aware datetime, in place of the database's clock. It can be replaced at any time
        (``connector.clock = ...``). ``schedule_in`` uses the system's clock, as it does with a database.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse methods that 3.x would call, and nothing calls here.

        Raises
        ------
        TypeError
            It names them, and the way out.
        """
        super().__init_subclass__(**kwargs)
        overridden = sorted(_QUERIES_OF_3X.intersection(vars(cls)))
        if overridden:
            raise TypeError(
                f"{cls.__name__} overrides {', '.join(overridden)} of InMemoryConnector, which nothing calls: an "
                "operation is a function here, and not a method. To run jobs as they are deferred, use "
                "procrastinate.testing.RunAtDefer. To look at or fail other operations, override run and run_async"
            )

    def __init__(
        self,
        *,
        json_dumps: Callable[[Any], str] | None = None,
        json_loads: Callable[[str], Any] | None = None,
        clock: Callable[[], datetime.datetime] = utcnow,
    ) -> None:
        super().__init__(json_dumps=json_dumps, json_loads=json_loads)
        self.clock = clock
        self._mutex = fork_lock()
        self._listeners: list[Listener] = []
        self.reset()

    def reset(self) -> None:
        """Delete everything and start ids at one again."""
        with self._mutex:
            self._tables = Tables()
            self.queries: list[tuple[str, dict[str, Any]]] = []
            """The name and arguments of each operation, in order."""
            self.states: list[str] = []
            """Each opening and closing, in order: ``open``, ``closed``, ``open_async``, ``closed_async``."""
            self.notify_channels: list[str] = []
            """The channels of the last listener."""
            self.on_notification: Notify | None = None
            """The callback of the last listener."""

    # For tests to read

    @property
    def jobs(self) -> dict[int, JobRow]:
        """The rows of ``procrastinate_jobs``, by id. Tests may change them; no trigger fires."""
        return self._tables.jobs

    @property
    def events(self) -> dict[int, list[EventRow]]:
        """The history of each job, in order, as ``{"type": "deferred", "at": ...}``."""
        return self._tables.events

    @property
    def workers(self) -> dict[int, datetime.datetime]:
        """The last heartbeat of each registered worker."""
        return self._tables.workers

    @property
    def periodic_defers(self) -> dict[tuple[str, str], int]:
        """The last deferred tick, by task name and periodic id."""
        return self._tables.periodic_defers

    @property
    def current_locks(self) -> set[str]:
        """The locks of the running jobs."""
        rows = list(self.jobs.values())
        return {row["lock"] for row in rows if row["status"] == DOING and row["lock"] is not None}

    @property
    def finished_jobs(self) -> list[JobRow]:
        """The jobs that succeeded or failed."""
        return [row for row in list(self.jobs.values()) if row["status"] in _FINISHED]

    @property
    def table_exists(self) -> bool:
        """True if the schema counts as applied. Tests may set it."""
        return self._tables.exist

    @table_exists.setter
    def table_exists(self, value: bool) -> None:
        self._tables.exist = value

    # Open and close

    def open(self, pool_or_engine: Any = None) -> None:
        """Record ``open`` in :attr:`states`."""
        self.states.append("open")

    def close(self) -> None:
        """Record ``closed`` in :attr:`states`."""
        self.states.append("closed")

    async def open_async(self, pool_or_engine: Any = None) -> None:
        """Record ``open_async`` in :attr:`states`."""
        self.states.append("open_async")

    async def close_async(self) -> None:
        """Record ``closed_async`` in :attr:`states`."""
        self.states.append("closed_async")

    # Operations

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the in-memory form of an operation.

        Raises
        ------
        NotImplementedError
            The operation has no in-memory form, because it is a user's function.
        """
        name, arguments, implementation = self._find(operation, args, kwargs)
        with self._mutex:
            self.queries.append((name, arguments))
            self._tables.now = self.clock()
            result = implementation(self._tables, **arguments)
            self._send_notifications()
        return result

    async def run_async(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation like :meth:`run`. Yield to the event loop first, as a wait for a database does."""
        await asyncio.sleep(0)
        return self.run(operation, *args, **kwargs)

    def run_on(self, connection: Any, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation like :meth:`run` and ignore the connection."""
        return self.run(operation, *args, **kwargs)

    async def run_on_async(self, connection: Any, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation like :meth:`run_async` and ignore the connection."""
        return await self.run_async(operation, *args, **kwargs)

    def transaction(
        self, bind: Any, last: Callable[[], Operation[[], None]]
    ) -> AbstractContextManager[Any] | AbstractAsyncContextManager[Any]:
        """Return a block that ends the job, inside the user's transaction if ``bind`` is given."""
        return _Block(lambda: self.run(last())) if bind is None else super().transaction(bind, last)

    def _find(
        self, operation: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[str, dict[str, Any], Callable[..., R]]:
        operation, args, kwargs = unwrapped(operation, args, kwargs)
        if operation in _WRAPPERS:
            operation, args, kwargs = unwrapped(args[0], args[1:], kwargs)
        implementation = IMPLEMENTED.get(operation)
        if implementation is None:
            name = f"{getattr(operation, '__module__', '')}.{getattr(operation, '__qualname__', repr(operation))}"
            raise NotImplementedError(f"{name} has no in-memory form: test it against a database")
        bound = _signature(operation).bind(None, *args, **kwargs)
        _connection, *names = bound.arguments
        return operation.__name__, {name: bound.arguments[name] for name in names}, implementation

    # Notifications

    async def listen_notify(
        self,
        on_notification: Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        """Call ``on_notification`` for each notification of the database's triggers, until cancelled."""
        self.notify_channels, self.on_notification = list(channels), on_notification
        listener = Listener(frozenset(self.notify_channels), asyncio.get_running_loop(), asyncio.Queue())
        with self._mutex:
            self._listeners.append(listener)
        try:
            if on_listening is not None:
                on_listening()
            while True:
                channel, payload = await listener.heard.get()
                await on_notification(channel=channel, payload=payload)
        finally:
            with self._mutex:
                self._listeners.remove(listener)

    def _send_notifications(self) -> None:
        notifications, self._tables.notifications = self._tables.notifications, []
        for channel, payload in notifications:
            for listener in self._listeners:
                listener.tell(channel, payload)
