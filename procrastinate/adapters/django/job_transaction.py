"""The transaction of a task that ends its job, on Django's connection."""

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
    """``atomic()``, outermost, with something to do right before the commit. For ``with`` and for ``async with``.

    The asynchronous block is in a thread, and on a connection, that no other job uses: what others do meanwhile is not
    in its transaction. A worker of a Django project has given the job such a thread; elsewhere the block gets one.
    (In a test that runs jobs inside its own transaction, it stays there.)
    """

    def __init__(self, alias: str, finish: Callable[[], None]) -> None:
        self._alias = alias
        self._finish = finish
        self._outer: AbstractAsyncContextManager[None] | None = None

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
            yield
            self._finish()

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
        """Whether the shared connection has a transaction open: that of a test, in which its jobs run."""
        return bool(db.connections[self._alias].in_atomic_block)


@contextlib.asynccontextmanager
async def _own_thread() -> AsyncIterator[None]:
    """A thread for the sync code inside, whose connections are closed with it: nobody else would."""
    async with cast("AbstractAsyncContextManager[None]", ThreadSensitiveContext()):
        try:
            yield
        finally:
            await sync_to_async(db.connections.close_all)()
