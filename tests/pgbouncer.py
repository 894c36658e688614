"""A PgBouncer of a test's own, in transaction mode, before the server of the run."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa

from tests.database import libpq_url, url_text

_REQUIRED = "PROCRASTINATE_REQUIRE_PGBOUNCER"
_PORT = 6432
_SETTINGS = """
[databases]
{database} = host={host} dbname={database}
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
    path = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        message = "pgbouncer is not installed (Debian: apt install pgbouncer)"
        if os.environ.get(_REQUIRED):
            pytest.fail(message)
        pytest.skip(message)
    return path


@contextlib.contextmanager
def before(database_url: str, directory: pathlib.Path) -> Iterator[str]:
    """The URL of a database through a PgBouncer, which shares three connections among all transactions."""
    path = program()
    url = sa.make_url(database_url)
    directory.mkdir(exist_ok=True)
    directory.chmod(0o777)
    directory.parent.chmod(0o711)
    host, user = url.query["host"], url.username or "postgres"
    settings = directory / "pgbouncer.ini"
    values = {"database": url.database, "host": host, "directory": directory, "port": _PORT}
    settings.write_text(_SETTINGS.format(**values).replace("dbname=", f"user={user} dbname="))
    command = [path, "-q", str(settings)]
    if os.getuid() == 0:  # It refuses to run as root: as the server's user, it may open the server's socket.
        command[1:1] = ["-u", pathlib.Path(host).owner()]
    with subprocess.Popen(command) as process:
        try:
            through = url_text(url.set(query={"host": str(directory), "port": str(_PORT)}))
            _wait(through, process)
            yield through
        finally:
            process.terminate()
            process.wait(10)


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
