"""The demo's processes: PostgreSQL, the shop's server and the worker."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping

import psycopg

from examples import embedded_postgres

SHOP = pathlib.Path(__file__).parent
STATE = pathlib.Path.cwd() / ".demo"
_START_TIMEOUT = 30.0


def start_database(name: str) -> dict[str, str]:
    """Start PostgreSQL with an empty database. Return the environment variables that the shop needs."""
    host = embedded_postgres.start(STATE / "postgres")
    with psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
    return {"SHOP_DATABASE": name, "SHOP_DATABASE_HOST": host}


def manage(environment: Mapping[str, str], *arguments: str, stdout: int | None = None) -> None:
    """Run ``manage.py`` and wait for it. Exit if it fails."""
    subprocess.run(_command(*arguments), env=_environment(environment), cwd=SHOP, check=True, stdout=stdout)


@contextlib.contextmanager
def managed(environment: Mapping[str, str], *arguments: str, log: pathlib.Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``manage.py`` during a block, with its output in a file. Stop it gracefully at the end."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            _command(*arguments),
            env=_environment(environment),
            cwd=SHOP,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_server(url: str, process: subprocess.Popen[bytes], log: pathlib.Path) -> None:
    """Wait until the server answers. Exit with its log if it does not."""
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url):
            return
        time.sleep(0.1)
    raise SystemExit(f"The shop's server does not answer at {url}:\n{log.read_text()}")


def _command(*arguments: str) -> list[str]:
    return [sys.executable, str(SHOP / "manage.py"), *arguments]


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
