"""Heartbeat of a worker, in its own thread, so that a worker whose event loop is blocked does not look dead."""

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
from procrastinate.worker.services.teller import Teller

LEAVING = WorkerTerms(heartbeat_interval=0.2, stalled_timeout=2.0)
"""Terms of a worker whose process is about to end at once: other workers soon rescue its jobs."""


class _Terms:
    """The terms by which other workers judge this one, and the seconds between its heartbeats."""

    def __init__(self, terms: WorkerTerms, interval: float) -> None:
        self.current = terms
        self.interval = interval
        self.new: WorkerTerms | None = None
        """Terms that the next heartbeat writes."""
        self.hastened: Future[None] = Future()

    def hasten(self) -> None:
        """Write :data:`LEAVING` with the next heartbeat."""
        if self.current is not LEAVING:
            self.new = LEAVING

    def written(self, terms: WorkerTerms) -> None:
        """Note that the database has these terms."""
        self.current, self.new = terms, None
        self.hastened.set_result(None)
        self.interval = min(self.interval, terms.heartbeat_interval or self.interval)


class _Stop:
    """A request to stop, and a way to end a wait without one. Safe in a signal handler, unlike a condition."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    @property
    def is_requested(self) -> bool:
        return self._requested.is_set()

    def request(self) -> None:
        self._requested.set()
        self.wake()

    def wake(self) -> None:
        """End a wait now."""
        self._wake.put(None)

    def is_requested_within(self, seconds: float) -> bool:
        """Wait for a request, at most this long or until woken."""
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=seconds)
        return self.is_requested


class Heartbeat:
    """Send the worker's heartbeat on a connection of its own, until stopped.

    If other workers have removed this worker in the meantime (while the machine slept, for example), it registers
    again.

    Parameters
    ----------
    interval:
        Seconds between heartbeats.
    terms:
        The terms by which other workers judge this one.
    pulse:
        Notes each answer of the database.
    teller:
        Says what the worker does, and hears the answers.
    on_new_id:
        Called in the thread with the worker's new id.
    on_first_beat:
        Called in the thread after the first heartbeat or its failed attempt. The first heartbeat connects, which is
        slow next to a task that holds the GIL: seventeen turns, while a heartbeat takes three.
    """

    def __init__(
        self,
        connector: BaseConnector,
        worker_id: int,
        interval: float,
        terms: WorkerTerms,
        pulse: Pulse,
        teller: Teller,
        logger: logging.Logger,
        on_new_id: Callable[[int], None],
        on_first_beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._connector = connector
        self._worker_id = worker_id
        self._terms = _Terms(terms, interval)
        self._pulse = pulse
        self._teller = teller
        self._logger = logger
        self._on_new_id = on_new_id
        self._on_first_beat = on_first_beat
        self._stop = _Stop()
        self._outlived: Collection[Future[Any]] = ()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="procrastinate-heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def hasten(self) -> None:
        """Send five heartbeats a second from now on, under the terms :data:`LEAVING`. Safe in a signal handler."""
        self._terms.hasten()
        self._stop.wake()

    def stop(self, after: Collection[Future[Any]] = ()) -> None:
        """Stop the heartbeat without waiting for a beat in progress.

        Parameters
        ----------
        after:
            Futures of this worker's jobs that still run. The worker stays registered until they end, on a new
            connection, because otherwise another worker would run the same jobs at the same time.
        """
        self._outlived = after
        self._stop.request()

    async def hastened(self, max_wait: float) -> None:
        """Wait at most ``max_wait`` seconds until the database has the terms of :meth:`hasten`, if it was called."""
        if self._terms.new is not None:
            await asyncio.wait([asyncio.wrap_future(self._terms.hastened)], timeout=max_wait)

    async def join(self, max_wait: float) -> None:
        """Wait at most ``max_wait`` seconds for the end of the thread.

        The thread notifies the event loop. A thread of the loop's default executor could wait as well, but jobs use
        that executor too and may fill it, replace it or shut it down.
        """
        await asyncio.wait([asyncio.wrap_future(self._ended)], timeout=max_wait)
        if self._ended.done():
            self._thread.join()  # it only has to return

    def beat(self) -> None:
        """Send a heartbeat now.

        An exit of the code that the program gives to its connections must not end the thread.
        """
        try:
            self._beat()
        except BaseException as error:
            self._warn("The heartbeat could not be written: %s", error, action="update_heartbeat_error")

    def _run(self) -> None:
        try:
            self.beat()
            self._on_first_beat()
            while not self._stop.is_requested_within(self._terms.interval):
                if self._teller.loop_has_ended:
                    self._warn_of_end()
                    self._outlived = self._teller.calls_in_threads()
                    break
                self.beat()
            self._teller.write_last(self._connector)
            self._outlive()
        finally:
            self._ended.set_result(None)

    def _beat(self) -> None:
        asked = self._pulse.clock()
        is_known = self._write(self._connector)
        self._pulse.answered(asked)
        if not is_known and not self._stop.is_requested:  # by now it may have signed off
            self._register_again()
        self._teller.write_more(self._connector)

    def _write(self, connector: BaseConnector) -> bool:
        """Write a heartbeat and any new terms. Return True if the worker is registered."""
        terms = self._terms.new
        report, interval = self._teller.report(), self._terms.interval
        answer = connector.run(core.beat, self._worker_id, report, terms, interval=interval)
        if terms is not None:
            self._terms.written(terms)
        if answer is None:
            return False
        self._teller.heard(answer)
        return True

    def _register_again(self) -> None:
        self._worker_id = self._connector.run(core.register_worker, self._terms.current, self._teller.identity)
        self._on_new_id(self._worker_id)
        self._warn(
            "Other workers took this worker for dead; it goes on as worker %s",
            self._worker_id,
            action="worker_registered_again",
        )

    def _outlive(self) -> None:
        """Send heartbeats until the last job or the process ends, then unregister the worker."""
        if all(future.done() for future in self._outlived):
            return
        connector = self._connector.get_worker_connector()
        connector.open()
        with contextlib.closing(connector):
            is_over = False
            while not is_over:
                try:
                    self._write(connector)
                except BaseException as error:
                    self._warn("The heartbeat could not be written: %s", error, action="update_heartbeat_error")
                is_over = not concurrent.futures.wait(self._outlived, timeout=self._terms.interval).not_done
            with contextlib.suppress(BaseException):  # other workers find out
                connector.run(core.unregister_worker, self._worker_id)

    def _warn_of_end(self) -> None:
        """Warn that no code can run or record jobs any more, but for those that run in threads."""
        message = "The event loop of worker %s has ended without the worker: other workers rescue its jobs"
        self._warn(message, self._worker_id, action="worker_abandoned")

    def _warn(self, message: str, detail: Any, *, action: str) -> None:
        """Log a warning. A failing log handler must not stop the heartbeat."""
        with contextlib.suppress(BaseException):
            self._logger.warning(message, detail, extra={"action": action, "worker_id": self._worker_id})
