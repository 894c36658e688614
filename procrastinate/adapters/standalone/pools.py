"""Runners for connections from another kind of engine or from a psycopg pool."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa

from procrastinate.adapters.connections.engine_runner import AsyncEngineRunner, EngineRunner, translated_errors
from procrastinate.adapters.connections.user_connection import TakesUserConnections
from procrastinate.connector import Operation

if TYPE_CHECKING:
    import psycopg_pool

P = ParamSpec("P")
R = TypeVar("R")


class SyncRunner(Protocol):
    """Runs operations and closes its connections."""

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...

    def close(self) -> None: ...


class AsyncRunner(Protocol):
    """An asynchronous :class:`SyncRunner`."""

    async def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...

    async def close(self) -> None: ...


class ThreadRunner:
    """Runs operations of asynchronous code in threads, on a synchronous engine.

    It uses the engine's own pool, so that the engine's owner sees every connection.
    """

    def __init__(self, runner: SyncRunner) -> None:
        self._runner = runner

    async def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation in a thread without blocking the event loop."""
        return await asyncio.to_thread(lambda: self._runner.run(operation, *args, **kwargs))

    async def close(self) -> None:
        """Close the connections of an owned engine."""
        self._runner.close()


class PoolRunner:
    """Runs operations on connections of a ``psycopg_pool.ConnectionPool``, each in one of the pool's transactions."""

    def __init__(self, pool: psycopg_pool.ConnectionPool[Any], *, owned: bool = False) -> None:
        self._pool = pool
        self._owned = owned

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on a pooled connection."""
        with translated_errors():
            if self._owned:
                self._pool.open()
            with self._pool.connection() as connection:
                return TakesUserConnections().run_on(connection, operation, *args, **kwargs)

    def close(self) -> None:
        """Close an owned pool."""
        if self._owned:
            self._pool.close()


class AsyncPoolRunner:
    """Runs operations like :class:`PoolRunner`, on a ``psycopg_pool.AsyncConnectionPool``."""

    def __init__(self, pool: psycopg_pool.AsyncConnectionPool[Any], *, owned: bool = False) -> None:
        self._pool = pool
        self._owned = owned

    async def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation on a pooled connection."""
        with translated_errors():
            if self._owned:
                await self._pool.open()
            async with self._pool.connection() as connection:
                return await TakesUserConnections().run_on_async(connection, operation, *args, **kwargs)

    async def close(self) -> None:
        """Close an owned pool."""
        if self._owned:
            await self._pool.close()


def sync_runner_for(pool_or_engine: Any) -> SyncRunner:
    """Return the runner for a user's pool or engine, which the user closes.

    Raises
    ------
    TypeError
        ``pool_or_engine`` has another type or is asynchronous.
    """
    if isinstance(pool_or_engine, sa.Engine):
        return EngineRunner(pool_or_engine, owned=False)
    if _is_pool(pool_or_engine, "ConnectionPool"):
        return PoolRunner(pool_or_engine)
    if _is_async_engine(pool_or_engine) or _is_pool(pool_or_engine, "AsyncConnectionPool"):
        raise TypeError(f"open() takes no asynchronous {type(pool_or_engine).__name__}: use open_async()")
    raise TypeError(
        f"open() takes an Engine of SQLAlchemy or a ConnectionPool of psycopg_pool, not {type(pool_or_engine).__name__}"
    )


def async_runner_for(pool_or_engine: Any) -> AsyncRunner:
    """Return the runner for a user's pool or engine, like :func:`sync_runner_for`, for asynchronous code."""
    if _is_async_engine(pool_or_engine):
        return AsyncEngineRunner(pool_or_engine, owned=False)
    if _is_pool(pool_or_engine, "AsyncConnectionPool"):
        return AsyncPoolRunner(pool_or_engine)
    if isinstance(pool_or_engine, sa.Engine) or _is_pool(pool_or_engine, "ConnectionPool"):
        return ThreadRunner(sync_runner_for(pool_or_engine))
    raise TypeError(
        "open_async() takes an AsyncEngine or Engine of SQLAlchemy or an AsyncConnectionPool of psycopg_pool, "
        f"not {type(pool_or_engine).__name__}"
    )


def _is_async_engine(value: Any) -> bool:
    from sqlalchemy.ext.asyncio import AsyncEngine

    return isinstance(value, AsyncEngine)


def _is_pool(value: Any, class_name: str) -> bool:
    psycopg_pool = sys.modules.get("psycopg_pool")
    return psycopg_pool is not None and isinstance(value, getattr(psycopg_pool, class_name))
