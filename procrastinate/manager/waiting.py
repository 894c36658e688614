"""Waiting for jobs to finish: by notifications if the database allows listening, and by polling in any case."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from procrastinate import core, exceptions
from procrastinate._checks.amounts import read_seconds
from procrastinate._checks.ids import asked_id
from procrastinate._durations import setting
from procrastinate._fork_locks import fork_lock
from procrastinate.connector import BaseConnector
from procrastinate.core import Status
from procrastinate.core.channels import FINISHED_CHANNEL, parse_finished

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
"""First and longest polling interval in seconds. Each interval is 1.5 times the previous one."""

_STEADY = 0.5
"""Seconds of listening after which a lost connection is no failure to connect, so that the next pause is short."""
_LONGEST_GAP = 0.5
"""Maximum delay in seconds after a false notification. It limits the load, as any role that can log in can notify."""
_LISTEN_AFTER = 0.2
"""Seconds of waiting after which a listening connection pays off."""
_WAITING = (Status.TODO, Status.DOING, Status.ABORTING)

Ring = Callable[[], object]


class Wait:
    """State of one wait for one job: the polling intervals, the timeout and the checks of the job's progress.

    Parameters
    ----------
    timeout:
        Maximum wait in seconds.
    """

    def __init__(self, job_id: int, timeout: float | None) -> None:
        if timeout is None:
            raise TypeError("timeout must be a number of seconds, not None: every wait needs a limit")
        self._job_id = job_id
        self._timeout = read_seconds("timeout", timeout)
        self._start = time.monotonic()
        self._pause = _FIRST_PAUSE
        self._gap = 0.0
        self._seen = False

    def is_over(self, progress: core.Progress | None) -> bool:
        """Return true if the job has finished.

        Raises
        ------
        NoResult
            The job does not exist, or was deleted.
        JobNotCommitted
            No worker can claim the job before the caller's own transaction commits.
        WaitTimeout
            The timeout has passed.
        """
        if progress is None:
            raise exceptions.NoResult(self._why_not_there())
        self._seen = True
        if progress.status not in _WAITING:
            return True
        if progress.is_uncommitted:
            raise exceptions.JobNotCommitted(
                f"Job {self._job_id} was deferred or changed in this very transaction, and no worker can claim it "
                "before the commit: commit first, then wait"
            )
        if self._elapsed() >= self._timeout:
            raise exceptions.WaitTimeout(
                f"Job {self._job_id} has not ended within {setting(self._timeout)}: it is {progress.status.value}"
            )
        return False

    def _why_not_there(self) -> str:
        if self._seen:
            return f"Job {self._job_id} was deleted during the wait (perhaps by delete_jobs of the worker)"
        return f"There is no job {self._job_id}: it was deleted, or it is not committed yet"

    def next_pause(self) -> float:
        """Return the seconds until the next poll. A notification makes it earlier."""
        pause, self._pause = self._pause, min(self._pause * 1.5, _LONGEST_PAUSE)
        return max(0.0, min(pause, self._timeout - self._elapsed()))

    def next_gap(self) -> float:
        """Return the seconds between a notification and the poll: 0 at first, then doubled after each false one."""
        gap, self._gap = self._gap, min(max(self._gap * 2, _FIRST_PAUSE), _LONGEST_GAP)
        return max(0.0, min(gap, self._timeout - self._elapsed()))

    @property
    def is_long(self) -> bool:
        """True if the wait has lasted long enough to pay off a listening connection."""
        return self._elapsed() >= _LISTEN_AFTER

    def _elapsed(self) -> float:
        return time.monotonic() - self._start


class FinishedListener:
    """Calls a function for each wait whose job has finished.

    All waits of a process share one thread and one connection, which exist only during a wait. If the database does
    not allow listening, the waits rely on polling.
    """

    def __init__(self, make_connector: Callable[[], BaseConnector]) -> None:
        self._make_connector = make_connector
        self._mutex = fork_lock()
        self._forget()

    def _forget(self) -> None:
        self._rings: dict[int, list[Ring]] = {}
        self._process = os.getpid()
        self._stop: Ring | None = None
        self._is_listening = False
        self._listening_since = math.inf

    @contextlib.contextmanager
    def ringing(self, job_id: int, ring: Ring) -> Iterator[None]:
        """Call ``ring`` from another thread when the job has finished or may have finished."""
        with self._mutex:
            if self._process != os.getpid():
                self._forget()  # a forked process does not inherit the thread
            self._rings.setdefault(job_id, []).append(ring)
            if self._stop is None:
                self._start()
            elif self._is_listening:
                ring()  # the job may have finished before this registration
        try:
            yield
        finally:
            with self._mutex:
                self._rings[job_id].remove(ring)
                if not self._rings[job_id]:
                    del self._rings[job_id]
                if not self._rings and self._stop is not None:
                    self._stop()
                    self._stop, self._is_listening = None, False

    def _start(self) -> None:
        """Start the thread. If the system refuses it or its loop, the wait polls, and the next wait tries again."""
        with contextlib.suppress(OSError, RuntimeError), contextlib.ExitStack() as undo:
            loop = asyncio.new_event_loop()
            undo.callback(loop.close)
            stopped = asyncio.Event()
            thread = threading.Thread(target=self._listen, args=(loop, stopped), name="procrastinate wait", daemon=True)
            thread.start()
            undo.pop_all()
            self._stop = _from_other_threads(loop, stopped.set)

    def _listen(self, loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(self._listen_until(stopped))

    async def _listen_until(self, stopped: asyncio.Event) -> None:
        listening = asyncio.create_task(self._listen_on(stopped))
        await stopped.wait()
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening

    async def _listen_on(self, stopped: asyncio.Event) -> None:
        pause = _LONGEST_PAUSE
        while True:
            self._listening_since = math.inf
            with contextlib.suppress(Exception):  # polling works without it
                await self._listen_once(stopped)
            if time.monotonic() - self._listening_since > _STEADY:
                pause = _LONGEST_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2, 60)

    async def _listen_once(self, stopped: asyncio.Event) -> None:
        connector = self._make_connector()
        await connector.open_async()
        try:
            await connector.listen_notify(self._on_notification, [FINISHED_CHANNEL], lambda: self._ring_all(stopped))
        finally:
            await connector.close_async()

    def _ring_all(self, stopped: asyncio.Event) -> None:
        with self._mutex:
            self._is_listening = not stopped.is_set()
            self._listening_since = time.monotonic()
            for ring in [ring for rings in self._rings.values() for ring in rings]:
                ring()

    async def _on_notification(self, *, channel: str, payload: str) -> None:
        with self._mutex:
            for job_id in parse_finished(payload):
                for ring in self._rings.get(job_id, []):
                    ring()


class Waiter:
    """Waits for jobs on a connector.

    Parameters
    ----------
    connector:
        Function that returns the current connector.
    """

    def __init__(self, connector: Callable[[], BaseConnector]) -> None:
        self._connector = connector
        self._listener = FinishedListener(lambda: connector().get_worker_connector())

    def wait(self, job_id: int, timeout: float) -> None:
        """Return when the job has finished. The exceptions are those of :meth:`Wait.is_over`."""
        wait = Wait(job_id, timeout)
        bell = threading.Event()
        with contextlib.ExitStack() as listening:
            is_listening = False
            while not wait.is_over(self._connector().run(core.get_progress, asked_id(job_id))):
                if wait.is_long and not is_listening:
                    listening.enter_context(self._listener.ringing(asked_id(job_id), bell.set))
                    is_listening = True
                if bell.wait(wait.next_pause()):
                    time.sleep(wait.next_gap())
                bell.clear()

    async def wait_async(self, job_id: int, timeout: float) -> None:  # noqa: ASYNC109
        """Asynchronous version of :meth:`wait`."""
        wait = Wait(job_id, timeout)
        bell = asyncio.Event()
        ring = _from_other_threads(asyncio.get_running_loop(), bell.set)
        with contextlib.ExitStack() as listening:
            is_listening = False
            while not wait.is_over(await self._connector().run_async(core.get_progress, asked_id(job_id))):
                if wait.is_long and not is_listening:
                    listening.enter_context(self._listener.ringing(asked_id(job_id), ring))
                    is_listening = True
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(bell.wait(), wait.next_pause())
                    await asyncio.sleep(wait.next_gap())
                bell.clear()


def _from_other_threads(loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> Ring:
    def ring() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the wait is over
            loop.call_soon_threadsafe(call)

    return ring
