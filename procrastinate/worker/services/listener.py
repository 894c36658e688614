"""The service that listens for notifications."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from procrastinate.core.channels import JobInserted, Notification
from procrastinate.manager import JobManager

STEADY = 0.5
"""Seconds of listening after which a cut connection is no failure to connect: the next pause is a short one."""


class Listener:
    """Tells the worker what the database notifies.

    Parameters
    ----------
    on_waiting:
        Called when jobs may be ready.
    on_pauses:
        Called when queues were paused or resumed, and whenever notifications are heard from then on.
    on_abort:
        Called with the id of a job whose abort may have been requested.
    on_listening:
        Called whenever notifications are heard from then on.
    on_steady:
        Called when listening ends that has lasted for :data:`STEADY` seconds. A connection that is cut at once does not
        count: something on the way does not let it listen.
    """

    def __init__(
        self,
        manager: JobManager,
        queues: Iterable[str] | None,
        on_waiting: Callable[[JobInserted], None],
        on_abort: Callable[[int], None],
        on_listening: Callable[[], None],
        on_steady: Callable[[], None],
        on_pauses: Callable[[], None] = lambda: None,
    ) -> None:
        self._manager = manager
        self._queues = queues
        self._on_steady = on_steady
        self._on_pauses = on_pauses
        self._on_waiting = on_waiting
        self._on_abort = on_abort
        self._on_listening = on_listening

    async def run(self) -> None:
        """Listen until cancelled. What came before listening began is looked for once it has."""
        loop = asyncio.get_running_loop()
        since: float | None = None

        def listening() -> None:
            nonlocal since
            since = loop.time()
            self._on_listening()
            self._on_pauses()

        try:
            await self._manager.listen_for_jobs(
                on_notification=self._handle, queues=self._queues, on_listening=listening
            )
        finally:
            if since is not None and loop.time() - since >= STEADY:
                self._on_steady()

    async def _handle(self, *, channel: str, notification: Notification) -> None:
        if notification["type"] == "abort_job_requested":
            self._on_abort(notification["job_id"])
        elif notification.get("pauses"):
            self._on_pauses()
        else:
            self._on_waiting(notification)
