"""How psycopg writes and reads the queue's values: as it does by itself, whatever the program has registered.

A program may tell psycopg to write lists as JSON or to read times in its own way, for all its connections or for one
that it lends. The queue's statements are not written for that.
"""

from __future__ import annotations

import functools
from typing import Any

import psycopg
from psycopg import dbapi20, postgres
from psycopg.adapt import AdaptersMap
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


class QueueCursor(psycopg.Cursor[tuple[Any, ...]]):
    """A cursor of tuples on a connection that is lent, with the queue's adapters. The connection keeps its own."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection, row_factory=tuple_row)

    @property
    def adapters(self) -> AdaptersMap:
        """The queue's."""
        return ADAPTERS


class AsyncQueueCursor(psycopg.AsyncCursor[tuple[Any, ...]]):
    """As :class:`QueueCursor`, asynchronous."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        super().__init__(connection, row_factory=tuple_row)

    @property
    def adapters(self) -> AdaptersMap:
        """The queue's."""
        return ADAPTERS


def use_own_adapters(cursor: Any) -> None:
    """Let a cursor that its owner has made use the queue's adapters.

    It becomes a cursor of a subclass: psycopg asks a cursor for its ``adapters`` at each statement, and one cursor's
    cannot be set. Its class (which counts queries, say) is the owner's choice, so no other cursor takes its place.
    """
    cursor.__class__ = _with_own_adapters(cursor.__class__)


@functools.cache
def _with_own_adapters(kind: type[Any]) -> type[Any]:
    return type(kind.__name__, (kind,), {"__slots__": (), "adapters": property(lambda cursor: ADAPTERS)})
