"""Threads for the synchronous code of asynchronous jobs, chiefly Django's ORM and its connections."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext, sync_to_async

P = ParamSpec("P")
T = TypeVar("T")


class JobThread(ThreadPoolExecutor):
    """A single thread that starts when a job first calls synchronous code through ``sync_to_async``.

    Parameters
    ----------
    before_first_call:
        Called in the thread before each job's first call.
    """

    def __init__(self, before_first_call: Callable[[], None]) -> None:
        super().__init__(1, thread_name_prefix="procrastinate-django")
        self._before_first_call = before_first_call
        self.is_used = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Submit a call like any executor."""
        if not self.is_used:
            self.is_used = True
            super().submit(self._before_first_call)
        return super().submit(fn, *args, **kwargs)


_sharing: list[None] = []
"""One entry for each job of this process that uses its caller's thread."""


class JobThreads:
    """A worker's threads. Each job has a thread to itself while it runs, and later jobs reuse the thread.

    Django's connections belong to threads. Concurrent jobs in one thread would share transactions, and the clean-up of
    one would close the other's connection. Django's ASGI handler uses a thread per request for the same reason.

    Parameters
    ----------
    before_job, after_job:
        Called in the thread before and after each job that uses it.
    tidy_shared:
        Called in the thread that all jobs share if the worker runs inside ``async_to_sync``, before and after a job
        while no other job runs.
    """

    def __init__(
        self, before_job: Callable[[], None], after_job: Callable[[], None], tidy_shared: Callable[[], None]
    ) -> None:
        self._before_job = before_job
        self._after_job = after_job
        self._tidy_shared = tidy_shared
        self._idle: list[JobThread] = []

    def lend(self) -> AbstractAsyncContextManager[None]:
        """Make ``sync_to_async`` use a thread that no other job uses, inside the block.

        Inside ``async_to_sync``, asgiref makes all such calls in the caller's thread instead.
        """
        return self._share() if getattr(AsyncToSync.executors, "current", None) else self._lend()

    @contextlib.asynccontextmanager
    async def _share(self) -> AsyncIterator[None]:
        if not _sharing:
            await sync_to_async(self._tidy_shared)()
        _sharing.append(None)
        try:
            yield
        finally:
            _sharing.pop()
            if not _sharing:
                await sync_to_async(self._tidy_shared)()

    @contextlib.asynccontextmanager
    async def _lend(self) -> AsyncIterator[None]:
        thread = self._idle.pop() if self._idle else JobThread(self._before_job)
        context = ThreadSensitiveContext()
        SyncToAsync.context_to_thread_executor[context] = thread
        token = SyncToAsync.thread_sensitive_context.set(context)
        try:
            yield
        finally:
            try:
                if thread.is_used:
                    await sync_to_async(self._after_job)()
            finally:
                SyncToAsync.thread_sensitive_context.reset(token)
                # Code that the job left running may call again, and then gets a thread of its own.
                SyncToAsync.context_to_thread_executor.pop(context, None)
            # A thread with an interrupted clean-up is not reused, and ends.
            thread.is_used = False
            self._idle.append(thread)

    async def call_in_idle(self, function: Callable[[], Any]) -> None:
        """Call a function in each idle thread."""
        for thread in self._idle:
            await sync_to_async(function, thread_sensitive=False, executor=thread)()
