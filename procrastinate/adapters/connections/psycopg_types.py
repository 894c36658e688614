"""psycopg adapters for the queue's values: psycopg's defaults, whatever the program has registered.

A program may tell psycopg to write lists as JSON or to read timestamps differently, globally or on a connection that it
lends to the queue. The queue's statements assume the defaults.
"""

from __future__ import annotations

import functools
from typing import Any

import psycopg
from psycopg import dbapi20, postgres
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.rows import tuple_row
from psycopg.types import TypesRegistry
from psycopg.types.array import register_all_arrays


def _psycopgs_own() -> AdaptersMap:
    """Build a map in the same steps as psycopg's global map, but not from the global map."""
    adapters = AdaptersMap(types=TypesRegistry())
    postgres.register_default_types(adapters.types)
    postgres.register_default_adapters(adapters)
    dbapi20.register_dbapi20_adapters(adapters)
    register_all_arrays(adapters)
    return adapters


ADAPTERS = _psycopgs_own()
"""The ``context`` of the queue's own psycopg connections."""


class _ReadsUTF8(Loader):
    """Loads text in a SQL_ASCII database, for which psycopg would return bytes."""

    def load(self, data: Buffer) -> str:
        """Return the value as text."""
        return str(data, "utf-8")


_UNKNOWN = 0
"""The OID of psycopg's fallback loader for unknown types, for example enums."""


def _reading_utf8(adapters: AdaptersMap) -> AdaptersMap:
    adapters = AdaptersMap(adapters)
    for name in ("text", "varchar", "name", "bpchar"):
        adapters.register_loader(name, _ReadsUTF8)
    adapters.register_loader(_UNKNOWN, _ReadsUTF8)
    return adapters


ADAPTERS_OF_BYTES = _reading_utf8(ADAPTERS)


def _adapters_for(client_encoding: str | None) -> AdaptersMap:
    return ADAPTERS_OF_BYTES if client_encoding == "SQL_ASCII" else ADAPTERS


class _OfTheQueue:
    """A mixin that gives a psycopg cursor the queue's adapters. The borrowed connection keeps its own."""

    __slots__ = ()

    @property
    def adapters(self: Any) -> AdaptersMap:
        """The queue's adapters for the encoding of the connection."""
        return _adapters_for(self.connection.info.parameter_status("client_encoding"))

    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a statement to its end. In pipeline mode psycopg would only send it and report its result later."""
        super().execute(*args, **kwargs)  # type: ignore[misc]
        if self.connection.info.pipeline_status:
            with self.connection.pipeline() as pipeline:
                pipeline.sync()
        return self


class QueueCursor(_OfTheQueue, psycopg.Cursor[tuple[Any, ...]]):
    """A cursor that returns tuples."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection, row_factory=tuple_row)


class AsyncQueueCursor(_OfTheQueue, psycopg.AsyncCursor[tuple[Any, ...]]):
    """An asynchronous :class:`QueueCursor`."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        super().__init__(connection, row_factory=tuple_row)

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Run a statement to its end."""
        await psycopg.AsyncCursor.execute(self, *args, **kwargs)
        if self.connection.info.pipeline_status:
            async with self.connection.pipeline() as pipeline:
                await pipeline.sync()
        return self


@functools.cache
def with_own_adapters(kind: type[Any], client_encoding: str | None) -> type[Any]:
    """Return the subclass of an owner's class of cursors that uses the queue's adapters.

    Give it to a cursor as its class. psycopg reads ``adapters`` at each statement, and the attribute of one cursor
    cannot be set. A new cursor would lose the owner's class, which may count queries, for example.

    Parameters
    ----------
    client_encoding:
        The encoding of the connection, as the server reports it.
    """
    adapters = _adapters_for(client_encoding)
    return type(kind.__name__, (_OfTheQueue, kind), {"__slots__": (), "adapters": adapters})
