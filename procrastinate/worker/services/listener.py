"""The service that listens for notifications."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from procrastinate.core.channels import Notification
from procrastinate.manager import JobManager
from procrastinate.worker.backoff import Backoff
from procrastinate.worker.fetch.fetch_loop import FetchLoop
from procrastinate.worker.run.slots import Slots
from procrastinate.worker.services.abort_poller import AbortPoller
from procrastinate.worker.services.pause_keeper import PauseKeeper

STEADY = 0.5
"""Seconds of listening after which a cut connection is no failure to connect: the next pause is a short one."""


class Listener:
    """Tells the worker what the database notifies.

    Parameters
    ----------
    fetch_loop:
        Learns of jobs that may be ready, and each time notifications begin to be heard.
    slots:
        Tell the stacks of running jobs.
    aborts:
        Learns of jobs whose abort may have been requested.
    pause_keeper:
        Learns that queues were paused or resumed, and each time notifications begin to be heard.
    backoff:
        The pauses between two connections. They start again from the shortest when listening ends that has lasted for
        :data:`STEADY` seconds. A connection that is cut at once does not count, because something on the way does not
        let it listen.
    """

    def __init__(
        self,
        manager: JobManager,
        queues: Iterable[str] | None,
        fetch_loop: FetchLoop,
        slots: Slots,
        aborts: AbortPoller,
        pause_keeper: PauseKeeper,
        backoff: Backoff,
    ) -> None:
        self._manager = manager
        self._queues = queues
        self._fetch_loop = fetch_loop
        self._slots = slots
        self._aborts = aborts
        self._pause_keeper = pause_keeper
        self._backoff = backoff

    async def run(self) -> None:
        """Listen until cancelled. What came before listening began is looked for once it has."""
        loop = asyncio.get_running_loop()
        since: float | None = None

        def listening() -> None:
            nonlocal since
            since = loop.time()
            self._fetch_loop.listening()
            self._pause_keeper.ask()

        try:
            await self._manager.listen_for_jobs(
                on_notification=self._handle, queues=self._queues, on_listening=listening
            )
        finally:
            if since is not None and loop.time() - since >= STEADY:
                self._backoff.reset()

    async def _handle(self, *, channel: str, notification: Notification) -> None:
        if notification["type"] == "abort_job_requested" and notification.get("stack"):
            self._slots.report_stack(notification["job_id"])
        elif notification["type"] == "abort_job_requested":
            self._aborts.hint(notification["job_id"])
        elif notification.get("pauses"):
            self._pause_keeper.ask()
        else:
            self._fetch_loop.notified(notification)
