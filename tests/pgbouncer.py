"""A PgBouncer of a test's own, in transaction mode, before the server of the run."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import time
from collections.abc import Iterator

import psycopg
import sqlalchemy as sa

from tests.database import libpq_url, url_text
from tests.missing import find_program, missing

_REQUIRED = "PROCRASTINATE_REQUIRE_PGBOUNCER"
_PORT = 6432
_SETTINGS = """
[databases]
{database} = host={host} port={server_port} user={user} dbname={database}
[pgbouncer]
pool_mode = transaction
default_pool_size = 3
listen_addr =
unix_socket_dir = {directory}
listen_port = {port}
auth_type = any
ignore_startup_parameters = extra_float_digits,options
logfile = {directory}/log
pidfile = {directory}/pid
"""


def program() -> str:
    """Where PgBouncer is; skips the test where it is not, unless it must be."""
    path = find_program("pgbouncer", further="/usr/sbin")
    if path is None:
        missing("pgbouncer is not installed (Debian: apt install pgbouncer)", _REQUIRED)
    return path


class Pooler:
    """A PgBouncer that shares three connections among all transactions.

    Parameters
    ----------
    database_url:
        The one database that can be reached through it.
    directory:
        Where its socket is, in a directory of its own.
    """

    def __init__(self, database_url: str, directory: pathlib.Path) -> None:
        url = sa.make_url(database_url)
        host = str(url.query.get("host") or url.host)
        directory.mkdir(exist_ok=True)
        directory.chmod(0o777)
        directory.parent.chmod(0o711)
        settings = directory / "pgbouncer.ini"
        values = {"database": url.database, "directory": directory, "port": _PORT, "host": host}
        values |= {"server_port": url.port or 5432, "user": url.username or "postgres"}
        settings.write_text(_SETTINGS.format(**values))
        self._command = [program(), "-q", str(settings)]
        if os.getuid() == 0:  # It refuses to run as root: as the server's user, it may open the server's socket.
            user = pathlib.Path(host).owner() if host.startswith("/") else "nobody"
            self._command[1:1] = ["-u", user]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = url_text(url.set(host=None, port=None, query={"host": str(directory), "port": str(_PORT)}))
        """The database through it."""

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        self._process = subprocess.Popen(self._command)
        _wait(self.url, self._process)

    def stop(self) -> None:
        """End it, and all connections through it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@contextlib.contextmanager
def before(database_url: str, directory: pathlib.Path) -> Iterator[str]:
    """The URL of a database through a PgBouncer."""
    pooler = Pooler(database_url, directory)
    try:
        pooler.start()
        yield pooler.url
    finally:
        pooler.stop()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(libpq_url(url), connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.05)
