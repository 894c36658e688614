"""The transaction in which a task ends its job, on Django's connection."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import cast

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django import db
from django.db import transaction


class DjangoTransaction:
    """An outermost ``atomic()`` that calls a function right before the commit. For ``with`` and ``async with``.

    The asynchronous block uses a thread and a connection that no other job uses, so that other jobs' statements stay
    out of its transaction. A Django worker has already given the job such a thread; elsewhere the block gets one.
    A test that runs jobs inside its own transaction stays in it.

    Attributes
    ----------
    has_committed:
        True after the commit, also if a hook of the project fails then and the block raises its error.
    """

    def __init__(self, alias: str, finish: Callable[[], None]) -> None:
        self._alias = alias
        self._finish = finish
        self._outer: AbstractAsyncContextManager[None] | None = None
        self.has_committed = False

    def __enter__(self) -> None:
        self._inner = self._block()
        self._inner.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, traceback)

    async def __aenter__(self) -> None:
        self._outer = self._async_block()
        await self._outer.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._outer is not None
        await self._outer.__aexit__(kind, error, traceback)

    @contextlib.contextmanager
    def _block(self) -> Iterator[None]:
        with transaction.atomic(using=self._alias, durable=True):
            transaction.on_commit(self._note_commit, using=self._alias)
            yield
            self._finish()

    def _note_commit(self) -> None:
        self.has_committed = True

    @contextlib.asynccontextmanager
    async def _async_block(self) -> AsyncIterator[None]:
        has_thread = SyncToAsync.thread_sensitive_context.get(None) is not None
        stays = has_thread or await sync_to_async(self._is_in_transaction)()
        async with contextlib.nullcontext() if stays else _own_thread():
            block = self._block()
            await sync_to_async(block.__enter__)()
            try:
                yield
            except BaseException as error:
                await sync_to_async(block.__exit__)(type(error), error, error.__traceback__)
                raise
            await sync_to_async(block.__exit__)(None, None, None)

    def _is_in_transaction(self) -> bool:
        """Return true if the shared connection has an open transaction, as in a test that runs its jobs inside one."""
        return bool(db.connections[self._alias].in_atomic_block)


@contextlib.asynccontextmanager
async def _own_thread() -> AsyncIterator[None]:
    """Run the sync code inside in a new thread, and close that thread's connections at the end."""
    async with cast("AbstractAsyncContextManager[None]", ThreadSensitiveContext()):
        try:
            yield
        finally:
            await sync_to_async(db.connections.close_all)()
