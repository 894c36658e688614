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

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from tests import pgbouncer
from tests.conformance.runs import AsyncRun, Run, SyncRun
from tests.database import driver_url
from tests.django import conformance_kind as django_kind
from tests.standalone import conformance_kind as user_kind
from tests.standalone.user_connections import ASYNC_KINDS, SYNC_KINDS


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
