"""Jobs that a Django test runs itself, on the test's own connections and inside its transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from asgiref.sync import SyncToAsync, async_to_sync, sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from procrastinate._caller_thread import CallerThread, Main
from procrastinate.adapters.django.db_cleanup import close_idle_connections
from procrastinate.job_context import JobContext
from procrastinate.middleware import WorkerMiddleware

T = TypeVar("T")


class DjangoCallerThread(CallerThread):
    """The caller's thread as asgiref defines it, in which Django's asynchronous ORM finds the caller's connections."""

    def _drive(self, main: Main[T]) -> T:
        return async_to_sync(main)()

    async def _call(self, function: Callable[[], T]) -> T:
        return await sync_to_async(function, thread_sensitive=True)()

    def around_jobs(self) -> Sequence[WorkerMiddleware]:
        """Return the middleware that keeps the test's transactions usable."""
        return (self._keep_transactions_usable,)

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Share this thread's connections that have an open transaction with Django's asynchronous ORM.

        If the event loop runs in the thread that opened the transaction (pytest-asyncio with pytest-django), the
        asynchronous ORM would otherwise use another thread, another connection and no transaction.
        """
        shared = [one for one in connections.all(initialized_only=True) if one.in_atomic_block]
        thread = SyncToAsync.single_thread_executor
        before = thread.submit(_replace_connections, {one.alias: one for one in shared}).result()
        for one in shared:
            one.inc_thread_sharing()
        try:
            yield
        finally:
            for one in shared:
                one.dec_thread_sharing()
            thread.submit(_replace_connections, before).result()

    async def release(self) -> None:
        """Close the asynchronous ORM's connections, because a test database with an open one cannot be dropped."""
        await sync_to_async(connections.close_all)()
        await close_idle_connections()

    async def _keep_transactions_usable(
        self, call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: Any
    ) -> Any:
        """Run a job inside a test's transaction as if in autocommit, like a worker's job.

        A database error discards only the job's own writes, not the test's transaction. Hooks that the job registers
        with ``on_commit`` run when it has ended.
        """
        transactions = await self.call(_open_transactions)
        try:
            return await call_next()
        finally:
            if transactions:
                await self.call(lambda: _close(transactions))


def _replace_connections(new: Mapping[str, Any]) -> dict[str, Any]:
    """Replace this thread's connections and return the previous ones."""
    before = {one.alias: one for one in connections.all(initialized_only=True)}
    for alias, connection in new.items():
        if connection is None:
            del connections[alias]
        else:
            connections[alias] = connection
    return {alias: before.get(alias) for alias in new}


class _Transaction:
    """The open transaction of a connection, with a savepoint before the first query.

    A job without a query thus needs two fewer statements.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection: Any = connection
        self._hooks_before = len(self._connection.run_on_commit)
        self._savepoint: str | None = None
        self._connection.execute_wrappers.append(self._begin)

    def _begin(self, execute: Callable[..., Any], *query: Any) -> Any:
        self._connection.execute_wrappers.remove(self._begin)
        self._savepoint = self._connection.savepoint()
        return execute(*query)

    def close(self) -> None:
        """Release the savepoint, or roll back to it if the transaction is broken."""
        connection = self._connection
        if self._begin in connection.execute_wrappers:
            connection.execute_wrappers.remove(self._begin)
        if self._savepoint is None or not connection.in_atomic_block:
            return
        if _is_broken(connection):
            connection.needs_rollback = False
            connection.savepoint_rollback(self._savepoint)
        connection.savepoint_commit(self._savepoint)

    def take_hooks(self) -> Iterator[Callable[[], object]]:
        """Remove and return the hooks registered with ``transaction.on_commit`` since the start."""
        hooks = self._connection.run_on_commit[self._hooks_before :]
        del self._connection.run_on_commit[self._hooks_before :]
        for _, hook, *_ in hooks:
            yield hook


def _open_transactions() -> list[_Transaction]:
    return [
        _Transaction(connection)
        for connection in connections.all(initialized_only=True)
        if connection.in_atomic_block and connection.vendor == "postgresql"
    ]


def _close(transactions: list[_Transaction]) -> None:
    for transaction in transactions:
        transaction.close()
    for transaction in transactions:
        for hook in transaction.take_hooks():
            hook()


def _is_broken(connection: Any) -> bool:
    if connection.needs_rollback:
        return True
    driver_connection = connection.connection
    # psycopg and psycopg2 use the same numbers for the states.
    return driver_connection is not None and driver_connection.info.transaction_status == TransactionStatus.INERROR
