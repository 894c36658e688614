"""The heartbeat: a thread of its own, so that a task that blocks the event loop does not look dead."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Any

from procrastinate import core
from procrastinate.connector import BaseConnector
from procrastinate.core import WorkerTerms
from procrastinate.worker.services.liveness_watch import Pulse

LEAVING = WorkerTerms(heartbeat_interval=0.2, stalled_timeout=2.0)
"""How a worker is judged whose process is to end at once: its jobs are taken back soon after that."""


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
        self._new_terms: WorkerTerms | None = None
        self._pulse = pulse
        self._logger = logger
        self._on_new_id = on_new_id
        self._on_first_beat = on_first_beat
        self._stopping = threading.Event()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._outlived: Collection[Future[Any]] = ()
        self._hastened: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="procrastinate-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hasten(self) -> None:
        """Beat five times a second from now on, and be judged by :data:`LEAVING`. Safe in a signal handler."""
        if self._terms is not LEAVING:
            self._new_terms = LEAVING
        self._wake.put(None)

    def stop(self, after: Collection[Future[Any]] = ()) -> None:
        """End, without waiting for a beat under way.

        Parameters
        ----------
        after:
            What still runs of this worker's jobs. While it does, the worker stays registered, on a connection made for
            this. Another worker would run the same jobs at the same time.
        """
        self._outlived = after
        self._stopping.set()
        self._wake.put(None)

    async def hastened(self, max_wait: float) -> None:
        """Wait until the database knows of :meth:`hasten`, if that was called, ``max_wait`` seconds at most."""
        if self._new_terms is not None:
            await asyncio.wait([asyncio.wrap_future(self._hastened)], timeout=max_wait)

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
            while not self._is_stopped_within(self._interval):
                self.beat()
            self._outlive()
        finally:
            self._ended.set_result(None)

    def _is_stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=seconds)
        return self._stopping.is_set()

    def _beat(self) -> None:
        asked = self._pulse.clock()
        is_known = self._write(self._connector)
        self._pulse.answered(asked)
        if not is_known and not self._stopping.is_set():  # it may have signed off by now
            self._register_anew()

    def _write(self, connector: BaseConnector) -> bool:
        """Write a heartbeat, and terms that are new. Returns whether the worker is registered."""
        terms = self._new_terms
        if terms is None:
            return connector.run(core.update_heartbeat, self._worker_id)
        is_known = connector.run(core.update_heartbeat, self._worker_id, terms)
        self._terms, self._new_terms = terms, None
        self._hastened.set_result(None)
        self._interval = min(self._interval, terms.heartbeat_interval or self._interval)
        return is_known

    def _register_anew(self) -> None:
        self._worker_id = self._connector.run(core.register_worker, self._terms)
        self._on_new_id(self._worker_id)
        self._warn(
            "This worker was taken for dead by the others; it goes on as worker %s",
            self._worker_id,
            action="worker_registered_anew",
        )

    def _outlive(self) -> None:
        """Beat until the last job has ended or the process is gone, then sign off for the worker."""
        if all(future.done() for future in self._outlived):
            return
        connector = self._connector.get_worker_connector()
        connector.open()
        with contextlib.closing(connector):
            is_over = False
            while not is_over:
                try:
                    self._write(connector)
                except Exception as error:
                    self._warn("The heartbeat could not be written: %s", error, action="update_heartbeat_error")
                is_over = not concurrent.futures.wait(self._outlived, timeout=self._interval).not_done
            with contextlib.suppress(Exception):  # the others find out
                connector.run(core.unregister_worker, self._worker_id)

    def _warn(self, message: str, detail: Any, *, action: str) -> None:
        """A log handler that raises must not stop the heart."""
        with contextlib.suppress(BaseException):
            self._logger.warning(message, detail, extra={"action": action, "worker_id": self._worker_id})
