"""The threads in which a worker runs sync tasks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")


class SyncCalls(Protocol):
    """Where sync tasks run."""

    async def run(self, call: Callable[[], T], discard: Callable[[T], None]) -> T:
        """As :meth:`TaskThreads.run`."""
        ...


class TaskThreads:
    """As many threads as the worker may run jobs at once.

    A thread cannot be stopped. One that is no longer waited for is left to itself, and counted until it returns.

    Parameters
    ----------
    size:
        How many threads.
    on_returned:
        Called, in the event loop, when a thread that was left to itself has returned.
    """

    def __init__(self, size: int, on_returned: Callable[[], None]) -> None:
        self._executor = ThreadPoolExecutor(size, thread_name_prefix="procrastinate-task")
        self._on_returned = on_returned
        self._left = 0
        self._loop = asyncio.get_running_loop()

    @property
    def left(self) -> int:
        """How many threads still run what nobody waits for."""
        return self._left

    async def run(self, call: Callable[[], T], discard: Callable[[T], None]) -> T:
        """Call in a thread. When this is cancelled, ``discard`` gets, in the thread, what the call returns later.

        Parameters
        ----------
        call:
            Raises nothing.
        """
        future = self._executor.submit(call)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._leave(future, discard)
            raise

    def close(self) -> None:
        """Start no more calls, and wait for none."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _leave(self, future: Future[T], discard: Callable[[T], None]) -> None:
        if future.cancel():  # it had not begun
            return
        self._left += 1
        future.add_done_callback(functools.partial(self._return, discard))

    def _return(self, discard: Callable[[T], None], future: Future[T]) -> None:
        """In the thread, or here if it has just returned."""
        discard(future.result())
        with contextlib.suppress(RuntimeError):  # the event loop is closed: the worker has stopped
            self._loop.call_soon_threadsafe(self._count_returned)

    def _count_returned(self) -> None:
        self._left -= 1
        self._on_returned()
