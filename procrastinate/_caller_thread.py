"""The thread of a test that runs jobs itself. Sync code runs in it, and the event loop runs in another thread."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import contextvars
import functools
import queue
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from procrastinate.middleware import WorkerMiddleware

T = TypeVar("T")

Main = Callable[[], Coroutine[Any, Any, T]]


class CallerThread(abc.ABC):
    """Runs jobs for a caller, with sync code in the caller's own thread.

    As in a worker, the thread of a sync task must not have a running event loop. Its connections must be the caller's.
    """

    def __init__(self) -> None:
        self._is_inline = False

    def run(self, main: Main[T]) -> T:
        """Run a coroutine function that never suspends, without an event loop. Its sync calls run inline.

        Raises
        ------
        RuntimeError
            The coroutine suspends.
        """
        was_inline, self._is_inline = self._is_inline, True
        coroutine = main()
        try:
            coroutine.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            self._is_inline = was_inline
            coroutine.close()
        raise RuntimeError("A sync task, or a sync function around it, has returned something that must be awaited")

    def drive(self, main: Main[T]) -> T:
        """Run a coroutine function in a separate event loop, and serve its calls in this thread until it ends."""
        was_inline, self._is_inline = self._is_inline, False
        try:
            return self._drive(main)
        finally:
            self._is_inline = was_inline

    async def call(self, function: Callable[[], T]) -> T:
        """Call a function in the caller's thread. In an async test, call it in a thread for sync code."""
        return function() if self._is_inline else await self._call(function)

    @abc.abstractmethod
    def _drive(self, main: Main[T]) -> T: ...

    @abc.abstractmethod
    async def _call(self, function: Callable[[], T]) -> T: ...

    def around_jobs(self) -> Sequence[WorkerMiddleware]:
        """Return the worker middleware for each job that runs in this way."""
        return ()

    def shared(self) -> AbstractContextManager[None]:
        """Return a context in which async code uses this thread's connections, if connections belong to a thread."""
        return contextlib.nullcontext()

    async def release(self) -> None:  # noqa: B027
        """Close the connections that async code has left open, if connections belong to a thread."""


class PlainCallerThread(CallerThread):
    """The caller's thread serves calls while an event loop runs in another."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: queue.SimpleQueue[Callable[[], None] | None] | None = None

    def _drive(self, main: Main[T]) -> T:
        calls = self._calls = queue.SimpleQueue()
        running = _Running(main)
        context = contextvars.copy_context()
        with ThreadPoolExecutor(1, thread_name_prefix="procrastinate-test-loop") as executor:
            future: Future[T] = executor.submit(context.run, asyncio.run, running.run())
            future.add_done_callback(lambda _: calls.put(None))
            try:
                while (call := calls.get()) is not None:
                    call()
            except BaseException:  # Ctrl-C
                running.cancel()
                raise
            finally:
                self._calls = None
        return future.result()

    async def _call(self, function: Callable[[], T]) -> T:
        if self._calls is None:
            return await asyncio.to_thread(function)
        future: Future[T] = Future()
        self._calls.put(functools.partial(_fulfil, future, function))
        return await asyncio.wrap_future(future)


class _Running(Generic[T]):
    """A coroutine function that can be cancelled from another thread."""

    def __init__(self, main: Main[T]) -> None:
        self._main = main
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    async def run(self) -> T:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        return await self._main()

    def cancel(self) -> None:
        if self._loop is not None and self._task is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)


def _fulfil(future: Future[T], function: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
