"""Threads in which a worker runs sync tasks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from procrastinate._text.logs import get_logger

T = TypeVar("T")

logger = get_logger(__name__)

_NO_THREAD_PAUSE = 1.0
"""Seconds until the next try after the system has refused a thread."""
_MOST_TRIES = 5


class NoThread(BaseException):
    """The system refused a thread, and the call never started. Middleware that catches ``Exception`` lets it pass."""


class SyncCalls(Protocol):
    """Interface for running sync tasks."""

    async def run(
        self, call: Callable[[], T], discard: Callable[[T], None], on_left: Callable[[], None] | None = None
    ) -> T:
        """See :meth:`TaskThreads.run`."""
        ...


class _DaemonThreads:
    """Reusable threads, started on demand. The interpreter does not wait for them at exit."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._idle = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Call in a thread.

        Raises
        ------
        RuntimeError
            The system refuses a thread. The call never starts.
        """
        future: Future[T] = Future()
        work = functools.partial(self._work, call, future)
        with self._lock:
            is_one_idle = self._idle > 0
            if is_one_idle:
                self._idle -= 1
        if not is_one_idle:
            name = f"procrastinate-task_{self._started}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
            self._started += 1
        self._calls.put(work)
        return future

    def close(self) -> None:
        """Let each thread end after its call."""
        for _ in range(self._started):
            self._calls.put(None)

    def _serve(self) -> None:
        while (work := self._calls.get()) is not None:
            work()
            del work  # release what the call holds before the next one comes

    def _work(self, call: Callable[[], T], future: Future[T]) -> None:
        if not future.set_running_or_notify_cancel():
            self._count_idle()
            return
        try:
            result = call()
        except BaseException as error:
            self._count_idle()
            future.set_exception(error)
        else:
            self._count_idle()  # first, because the waiting code may submit the next call at once
            future.set_result(result)

    def _count_idle(self) -> None:
        with self._lock:
            self._idle += 1


class TaskThreads:
    """One thread per running sync job.

    A running thread cannot be stopped. After a cancelled wait the thread goes on alone and counts as left until it
    returns.

    Parameters
    ----------
    on_returned:
        Called in the event loop when a left thread has returned.
    """

    def __init__(self, on_returned: Callable[[], None]) -> None:
        self._threads = _DaemonThreads()
        self._on_returned = on_returned
        self.left = 0
        """Number of left threads: they run, and no code waits for them."""
        self._awaited: set[Future[Any]] = set()
        self.given_up: set[Future[Any]] = set()
        """The calls that code waited for when the worker ended. They may go on."""
        self._loop = asyncio.get_running_loop()

    def leave_all(self) -> None:
        """Note the calls that code waits for now as given up."""
        self.given_up |= self._awaited

    def all_calls(self) -> list[Future[Any]]:
        """Return the calls that code waits for, and those that were given up."""
        return [*self._awaited | self.given_up]

    async def run(
        self, call: Callable[[], T], discard: Callable[[T], None], on_left: Callable[[], None] | None = None
    ) -> T:
        """Call in a thread. After a cancellation, ``discard`` receives the call's late result in that thread.

        Parameters
        ----------
        call:
            Must not raise.
        discard:
            Called with the result of a call that returns after the cancellation.
        on_left:
            Called on cancellation if the call goes on in its thread.

        Raises
        ------
        NoThread
            The system refused a thread for several seconds, or until the cancellation. The call never starts.
        """
        future = await self._submit(call)
        self._awaited.add(future)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if self._leave(future, discard) and on_left is not None:
                on_left()
            raise
        finally:
            self._awaited.discard(future)

    def close(self) -> None:
        """Accept no more calls, and do not wait for running ones."""
        self._threads.close()

    async def _submit(self, call: Callable[[], T]) -> Future[T]:
        """Submit a call, and retry for some seconds while the system refuses a thread.

        The job keeps its slot, so the worker fetches no other.
        """
        for _ in range(_MOST_TRIES):
            try:
                return self._threads.submit(call)
            except RuntimeError as error:
                message = "The system refuses a thread for a job (%s): next try in %.0f s"
                with contextlib.suppress(BaseException):  # a failing log handler must not decide about the job
                    logger.warning(message, error, _NO_THREAD_PAUSE, extra={"action": "no_thread"})
            try:
                await asyncio.sleep(_NO_THREAD_PAUSE)
            except asyncio.CancelledError as cancelled:
                raise NoThread from cancelled
        raise NoThread

    def _leave(self, future: Future[T], discard: Callable[[T], None]) -> bool:
        """Stop waiting for a call, and return True if the call has started and goes on."""
        if future.cancel():
            return False
        self.left += 1
        future.add_done_callback(functools.partial(self._return, discard))
        return True

    def _return(self, discard: Callable[[T], None], future: Future[T]) -> None:
        """Discard the late result. Runs in the thread, or here if the thread has just returned."""
        discard(future.result())
        with contextlib.suppress(RuntimeError):  # the event loop is closed: the worker has stopped
            self._loop.call_soon_threadsafe(self._count_returned)

    def _count_returned(self) -> None:
        self.left -= 1
        self._on_returned()
