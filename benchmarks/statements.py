"""Counts the statements that reach a database, by the log of the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.server import Database, Server

_KINDS = ("statement: ", "execute ")
"""How the lines of the log begin that are statements, in the simple and in the extended protocol."""


class StatementCount:
    """The statements of a database since the count began."""

    def __init__(self, server: Server, database: Database) -> None:
        self._log = server.log
        self._begins = tuple(f"{database.name}|LOG:  {kind}" for kind in _KINDS)
        self._from = self._log.stat().st_size

    def so_far(self) -> int:
        """Return the number of statements."""
        with self._log.open("rb") as log:
            log.seek(self._from)
            return sum(line.decode(errors="replace").startswith(self._begins) for line in log)


@contextmanager
def counted_statements(server: Server, database: Database) -> Iterator[StatementCount]:
    """Log all statements inside the block, and yield their count. This slows the server down."""
    with server.changed({"log_statement": "all", "log_line_prefix": "%d|"}):
        yield StatementCount(server, database)
