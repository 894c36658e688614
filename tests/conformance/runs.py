"""How an operation is run on a connection: synchronously, or on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from procrastinate import core

P = ParamSpec("P")
R = TypeVar("R")


class Run(Protocol):
    """Runs operations on one kind of connection, as a connector would."""

    def __call__(self, operation: Callable[Concatenate[sa.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run in the open transaction; without one, in autocommit, or in a transaction where the operation asks."""

    def transaction(self) -> AbstractContextManager[None]:
        """What is run inside belongs to one transaction of the caller's; an exception rolls it back."""


@dataclasses.dataclass
class SyncRun:
    """Runs on a synchronous engine."""

    engine: sa.Engine
    _open: sa.Connection | None = None

    def __call__(self, operation: Callable[Concatenate[sa.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._open is not None:
            return operation(self._open, *args, **kwargs)
        if core.is_atomic(operation):
            with self.engine.begin() as connection:
                return operation(connection, *args, **kwargs)
        with self.engine.connect() as connection:
            return operation(connection.execution_options(isolation_level="AUTOCOMMIT"), *args, **kwargs)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self.engine.begin() as self._open:
            try:
                yield
            finally:
                self._open = None


@dataclasses.dataclass
class AsyncRun:
    """Runs on an asynchronous engine, by ``run_sync``, on an event loop of its own."""

    engine: AsyncEngine
    loop: asyncio.Runner
    _open: AsyncConnection | None = None

    def __call__(self, operation: Callable[Concatenate[sa.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        async def run() -> R:
            if self._open is not None:
                return await self._open.run_sync(operation, *args, **kwargs)
            if core.is_atomic(operation):
                async with self.engine.begin() as connection:
                    return await connection.run_sync(operation, *args, **kwargs)
            async with self.engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                return await connection.run_sync(operation, *args, **kwargs)

        return self.loop.run(run())

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        transaction = self.engine.begin()
        self._open = self.loop.run(_enter(transaction))
        try:
            yield
        except BaseException as error:
            self.loop.run(_exit(transaction, error))
            raise
        else:
            self.loop.run(_exit(transaction, None))
        finally:
            self._open = None


async def _enter(manager: contextlib.AbstractAsyncContextManager[R]) -> R:
    return await manager.__aenter__()


async def _exit(manager: contextlib.AbstractAsyncContextManager[Any], error: BaseException | None) -> None:
    await manager.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)
