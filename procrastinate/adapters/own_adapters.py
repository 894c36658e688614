"""How psycopg writes and reads the queue's values: as it does by itself, whatever the program has registered.

A program may tell psycopg to write lists as JSON or to read times in its own way, for all its connections or for one
that it lends. The queue's statements are not written for that.
"""

from __future__ import annotations

import functools
from typing import Any

import psycopg
from psycopg import BaseConnection, dbapi20, postgres
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.rows import tuple_row
from psycopg.types import TypesRegistry
from psycopg.types.array import register_all_arrays


def _psycopgs_own() -> AdaptersMap:
    """A map made in the steps in which psycopg makes its global one, and not from that."""
    adapters = AdaptersMap(types=TypesRegistry())
    postgres.register_default_types(adapters.types)
    postgres.register_default_adapters(adapters)
    dbapi20.register_dbapi20_adapters(adapters)
    register_all_arrays(adapters)
    return adapters


ADAPTERS = _psycopgs_own()
"""Given to psycopg as the ``context`` of the queue's own connections."""


def adapters_for(connection: BaseConnection[Any]) -> AdaptersMap:
    """The queue's adapters on a connection that somebody else has made."""
    return ADAPTERS_OF_BYTES if connection.info.parameter_status("client_encoding") == "SQL_ASCII" else ADAPTERS


class _ReadsUTF8(Loader):
    """Reads text where the server converts nothing: psycopg would give bytes."""

    def load(self, data: Buffer) -> str:
        """As text."""
        return str(data, "utf-8")


_UNKNOWN = 0
"""For psycopg, the number of all types that it does not know: the enums, for example."""


def _reading_utf8(adapters: AdaptersMap) -> AdaptersMap:
    adapters = AdaptersMap(adapters)
    for name in ("text", "varchar", "name", "bpchar"):
        adapters.register_loader(name, _ReadsUTF8)
    adapters.register_loader(_UNKNOWN, _ReadsUTF8)
    return adapters


ADAPTERS_OF_BYTES = _reading_utf8(ADAPTERS)


class _OfTheQueue:
    """Makes a psycopg cursor one of the queue's, on a connection that is lent. The connection keeps its adapters."""

    __slots__ = ()

    @property
    def adapters(self: Any) -> AdaptersMap:
        """The queue's."""
        return adapters_for(self.connection)

    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a statement to its end. In pipeline mode psycopg would send it, and tell its outcome later."""
        super().execute(*args, **kwargs)  # type: ignore[misc]
        if self.connection.info.pipeline_status:
            with self.connection.pipeline() as pipeline:
                pipeline.sync()
        return self


class QueueCursor(_OfTheQueue, psycopg.Cursor[tuple[Any, ...]]):
    """A cursor of tuples."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection, row_factory=tuple_row)


class AsyncQueueCursor(_OfTheQueue, psycopg.AsyncCursor[tuple[Any, ...]]):
    """As :class:`QueueCursor`, asynchronous."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        super().__init__(connection, row_factory=tuple_row)

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Run a statement to its end."""
        await psycopg.AsyncCursor.execute(self, *args, **kwargs)
        if self.connection.info.pipeline_status:
            async with self.connection.pipeline() as pipeline:
                await pipeline.sync()
        return self


def use_own_adapters(cursor: Any) -> None:
    """Let a cursor that its owner has made use the queue's adapters.

    It becomes a cursor of a subclass: psycopg asks a cursor for its ``adapters`` at each statement, and one cursor's
    cannot be set. Its class (which counts queries, say) is the owner's choice, so no other cursor takes its place.
    """
    cursor.__class__ = _with_own_adapters(cursor.__class__)


@functools.cache
def _with_own_adapters(kind: type[Any]) -> type[Any]:
    return type(kind.__name__, (_OfTheQueue, kind), {"__slots__": ()})
