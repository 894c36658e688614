"""Threads for the synchronous code of asynchronous jobs: Django's ORM, first of all, and its connections."""

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
    """A single thread, which starts when a job first calls synchronous code through ``sync_to_async``.

    Parameters
    ----------
    before_first_call:
        Called in the thread before the first call that each job makes.
    """

    def __init__(self, before_first_call: Callable[[], None]) -> None:
        super().__init__(1, thread_name_prefix="procrastinate-django")
        self._before_first_call = before_first_call
        self.is_used = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As every executor's."""
        if not self.is_used:
            self.is_used = True
            super().submit(self._before_first_call)
        return super().submit(fn, *args, **kwargs)


class JobThreads:
    """The threads of a worker. Each job has one for itself while it runs, and leaves it to a later job.

    Django keeps its connections by thread. Jobs that run at the same time in one thread would be in each other's
    transactions, and the clean-up of one would close the connection of another. (Django's ASGI handler gives each
    request a thread for the same reason.)

    Parameters
    ----------
    before_job, after_job:
        Called in the thread before and after each job that uses it.
    tidy_shared:
        Called in the thread that all jobs share where the worker runs inside ``async_to_sync``: before and after a job
        while no other runs.
    """

    def __init__(
        self, before_job: Callable[[], None], after_job: Callable[[], None], tidy_shared: Callable[[], None]
    ) -> None:
        self._before_job = before_job
        self._after_job = after_job
        self._tidy_shared = tidy_shared
        self._idle: list[JobThread] = []
        self._sharing = 0

    def lend(self) -> AbstractAsyncContextManager[None]:
        """Inside, ``sync_to_async`` calls in a thread that no other job uses.

        Inside ``async_to_sync``, asgiref makes all such calls in the thread of the caller, and nowhere else.
        """
        return self._share() if getattr(AsyncToSync.executors, "current", None) else self._lend()

    @contextlib.asynccontextmanager
    async def _share(self) -> AsyncIterator[None]:
        if not self._sharing:
            await sync_to_async(self._tidy_shared)()
        self._sharing += 1
        try:
            yield
        finally:
            self._sharing -= 1
            if not self._sharing:
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
                # What the job has left running may call again: it gets a thread of its own then.
                SyncToAsync.context_to_thread_executor.pop(context, None)
            # A thread whose clean-up was cut short is not lent again, and ends.
            thread.is_used = False
            self._idle.append(thread)

    async def call_in_idle(self, function: Callable[[], Any]) -> None:
        """Call a function in each thread that no job has."""
        for thread in self._idle:
            await sync_to_async(function, thread_sensitive=False, executor=thread)()
