"""Pause and resume queues: ``app.queues``."""

from __future__ import annotations

import builtins
import datetime
from typing import Any

from procrastinate import core
from procrastinate._checks.names import check_name, find_fault
from procrastinate._checks.times import require_aware
from procrastinate.connector import BaseConnector
from procrastinate.core import Pause
from procrastinate.manager.operation_calls import OperationCalls

__all__ = ["Pause", "Queues"]


class Queues(OperationCalls):
    """The queues of an app, available as ``app.queues``.

    While a queue is paused, workers start no job of it. Running jobs go on, and programs can still defer. A pause is a
    row in the database and outlasts the workers. They obey within a second, or at the next heartbeat.
    """

    def __init__(self, connector: BaseConnector) -> None:
        self.connector = connector

    def pause(
        self,
        queue: str,
        *,
        reason: str | None = None,
        until: datetime.datetime | None = None,
        by: str | None = None,
        connection: Any | None = None,
    ) -> None:
        """Pause a queue. If it is paused already, change the reason and the end of the pause.

        Parameters
        ----------
        queue:
            The name of the queue. A queue without jobs can be paused, too.
        reason:
            Text for the people who see the pause.
        until:
            The time at which the pause ends by itself. By default only :meth:`resume` ends it.
        by:
            Who pauses the queue.
        connection:
            An open connection of yours. Workers hear of the pause when you commit.

        Raises
        ------
        InvalidJob
            The name is invalid for a queue.
        ValueError
            ``until`` has no time zone.
        """
        self._run(connection, core.pause_queue, _name(queue), **_options(reason, until, by))

    async def pause_async(
        self,
        queue: str,
        *,
        reason: str | None = None,
        until: datetime.datetime | None = None,
        by: str | None = None,
        connection: Any | None = None,
    ) -> None:
        """Asynchronous version of :meth:`pause`."""
        await self._run_async(connection, core.pause_queue, _name(queue), **_options(reason, until, by))

    def resume(self, queue: str, *, connection: Any | None = None) -> bool:
        """End the pause of a queue. Return true if it was paused."""
        return self._run(connection, core.resume_queue, _name(queue))

    async def resume_async(self, queue: str, *, connection: Any | None = None) -> bool:
        """Asynchronous version of :meth:`resume`."""
        return await self._run_async(connection, core.resume_queue, _name(queue))

    def list(self, *, connection: Any | None = None) -> builtins.list[Pause]:
        """Return the pauses that last, ordered by the name of the queue."""
        return self._run(connection, core.list_pauses)

    async def list_async(self, *, connection: Any | None = None) -> builtins.list[Pause]:
        """Asynchronous version of :meth:`list`."""
        return await self._run_async(connection, core.list_pauses)


def _name(queue: str) -> str:
    check_name("queue", queue)
    return queue


def _options(reason: str | None, until: datetime.datetime | None, by: str | None) -> dict[str, Any]:
    require_aware("until", until)
    return {"reason": _text("reason", reason), "until": until, "by": _text("by", by)}


def _text(name: str, value: str | None) -> str | None:
    if value is None:
        return None
    fault = find_fault(value) if isinstance(value, str) else "no text"
    if fault is not None:
        raise ValueError(f"{name} contains {fault}: {value!r}")
    return value
