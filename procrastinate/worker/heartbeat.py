"""The heartbeat: a thread of its own, so that a task that blocks the event loop does not look dead."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from procrastinate import core
from procrastinate.connector import BaseConnector
from procrastinate.core import WorkerTerms
from procrastinate.worker.watch import Pulse


class Heartbeat:
    """Says that the worker is alive, on a connection of its own, until stopped.

    Should the others have taken the worker for dead meanwhile (a machine asleep, say), it registers anew.

    Parameters
    ----------
    interval:
        Seconds from one beat to the next.
    terms:
        How the others judge the worker.
    pulse:
        Told of each answer of the database.
    on_new_id:
        Called, in the thread, with the id that the worker has from now on.
    on_first_beat:
        Called, in the thread, once it has beaten, or tried to. That connects, which takes long beside a task that keeps
        the GIL: seventeen turns, where a beat takes three.
    """

    def __init__(
        self,
        connector: BaseConnector,
        worker_id: int,
        interval: float,
        terms: WorkerTerms,
        pulse: Pulse,
        logger: logging.Logger,
        on_new_id: Callable[[int], None],
        on_first_beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._connector = connector
        self._worker_id = worker_id
        self._interval = interval
        self._terms = terms
        self._pulse = pulse
        self._logger = logger
        self._on_new_id = on_new_id
        self._on_first_beat = on_first_beat
        self._stopping = threading.Event()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="procrastinate-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting for a beat under way."""
        self._stopping.set()

    async def join(self, max_wait: float) -> None:
        """Wait for the thread to end, ``max_wait`` seconds at most.

        The thread tells the event loop. A thread of the loop's default executor could wait for it as well, but jobs use
        that executor too: they may fill it, replace it or shut it down.
        """
        await asyncio.wait([asyncio.wrap_future(self._ended)], timeout=max_wait)
        if self._ended.done():
            self._thread.join()  # it has only to return

    def beat(self) -> None:
        """Say that the worker is alive, now."""
        try:
            self._beat()
        except Exception as error:
            self._warn("The heartbeat could not be written: %s", error, action="update_heartbeat_error")

    def _run(self) -> None:
        try:
            self.beat()
            self._on_first_beat()
            while not self._stopping.wait(self._interval):
                self.beat()
        finally:
            self._ended.set_result(None)

    def _beat(self) -> None:
        asked = self._pulse.clock()
        is_known = self._connector.run(core.update_heartbeat, self._worker_id)
        self._pulse.answered(asked)
        if not is_known and not self._stopping.is_set():  # it may have signed off by now
            self._register_anew()

    def _register_anew(self) -> None:
        self._worker_id = self._connector.run(core.register_worker, self._terms)
        self._on_new_id(self._worker_id)
        self._warn(
            "This worker was taken for dead by the others; it goes on as worker %s",
            self._worker_id,
            action="worker_registered_anew",
        )

    def _warn(self, message: str, detail: Any, *, action: str) -> None:
        """A log handler that raises must not stop the heart."""
        with contextlib.suppress(BaseException):
            self._logger.warning(message, detail, extra={"action": action, "worker_id": self._worker_id})
