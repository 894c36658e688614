"""The kinds of connection on which an operation may run."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from procrastinate import core
from tests import pgbouncer
from tests.database import driver_url
from tests.django import conformance_kind as django_kind
from tests.standalone import conformance_kind as user_kind
from tests.standalone.user_connections import ASYNC_KINDS, SYNC_KINDS

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


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of connection: its name, and how a runner on a database is made and closed."""

    name: str
    open: Callable[[str], AbstractContextManager[Run]]
    has_database: bool = True


def _sync_kind(driver: str) -> Kind:
    @contextlib.contextmanager
    def opened(database_url: str) -> Iterator[Run]:
        engine = sa.create_engine(driver_url(database_url, driver))
        yield SyncRun(engine)
        engine.dispose()

    return Kind(f"sync-{driver}", opened)


def _async_kind(driver: str) -> Kind:
    @contextlib.contextmanager
    def opened(database_url: str) -> Iterator[Run]:
        engine = create_async_engine(driver_url(database_url, driver))
        with asyncio.Runner() as loop:
            yield AsyncRun(engine, loop)
            loop.run(engine.dispose())

    return Kind(f"async-{driver}", opened)


@contextlib.contextmanager
def _opened_behind_pgbouncer(database_url: str) -> Iterator[Run]:
    with (
        tempfile.TemporaryDirectory(prefix="pgbouncer-") as directory,
        pgbouncer.before(database_url, pathlib.Path(directory) / "run") as through,
    ):
        engine = sa.create_engine(through, connect_args={"prepare_threshold": None})
        yield SyncRun(engine)
        engine.dispose()


def _opened_in_memory(database_url: str) -> AbstractContextManager[Run]:
    from tests.testing import conformance_kind as memory_kind

    return memory_kind.opened()


KINDS = [
    _sync_kind("psycopg"),
    _sync_kind("psycopg2"),
    _sync_kind("pg8000"),
    _async_kind("psycopg"),
    _async_kind("asyncpg"),
    Kind("django", django_kind.opened),
    Kind("pgbouncer", _opened_behind_pgbouncer),
    Kind("memory", _opened_in_memory, has_database=False),
    *(Kind(f"user's {kind}", functools.partial(user_kind.opened, kind)) for kind in SYNC_KINDS),
    *(Kind(f"user's async {kind}", functools.partial(user_kind.opened_async, kind)) for kind in ASYNC_KINDS),
]
