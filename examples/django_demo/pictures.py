"""``python -m examples.django_demo.pictures``: take the pictures of the dashboard for the documentation, with Chromium.

The jobs of the demo end within seconds. Their ends are spread over the last hour, so that the chart shows an ordinary
day.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

import psycopg

from examples.django_demo.processes import STATE, free_port, manage, managed, start_database, wait_for_server

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "images"
SIZE = "1280,900"
_SCHEMES = {"": "1", "-dark": "0"}
"""What Chromium calls the light and the dark scheme, by the end of a picture's name."""
_SECONDS = 60.0
_SPREAD = """
WITH moved AS (
    UPDATE procrastinate_jobs SET finished_at = now() - interval '59 minutes' * random()
    WHERE finished_at IS NOT NULL
)
DELETE FROM procrastinate_statistics
"""


def main() -> None:
    """Serve the dashboard of a filled shop, and take a picture of its overview in each colour scheme."""
    chromium = shutil.which("chromium") or sys.exit("Chromium is not installed (Debian: apt install chromium)")
    environment = {**start_database("shop_pictures"), "SHOP_LOG_LEVEL": "WARNING"}
    manage(environment, "migrate", "--verbosity", "0")
    for _ in range(5):
        manage(environment, "fill_shop")
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    log = STATE / "pictures.log"
    worker = ("procrastinate", "worker", "--concurrency=30", "--shutdown-graceful-timeout=1")
    dashboard = ("procrastinate", "dashboard", f"--port={port}", "--title=Shop")
    with _connect(environment) as connection:
        with managed(environment, *worker, log=log):
            _wait(connection)
        connection.execute(_SPREAD)
        with managed(environment, *worker, log=log), managed(environment, *dashboard, log=log) as server:
            wait_for_server(url, server, log)
            _wait(connection)
            for suffix, scheme in _SCHEMES.items():
                _take(chromium, url, scheme, FOLDER / f"dashboard-overview{suffix}.png")


def _connect(environment: Mapping[str, str]) -> psycopg.Connection:
    host, name = environment["SHOP_DATABASE_HOST"], environment["SHOP_DATABASE"]
    return psycopg.connect(host=host, dbname=name, user="postgres", autocommit=True)


def _wait(connection: psycopg.Connection) -> None:
    """Wait until no job is ready."""
    deadline = time.monotonic() + _SECONDS
    ready = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo' AND scheduled_at IS NULL"
    while connection.execute(ready).fetchone() != (0,) and time.monotonic() < deadline:
        time.sleep(0.2)


def _take(chromium: str, url: str, scheme: str, picture: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory() as profile:
        arguments = [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={profile}", f"--window-size={SIZE}", f"--blink-settings=preferredColorScheme={scheme}"),
            *(f"--screenshot={picture}", url),
        ]
        subprocess.run(arguments, check=True, capture_output=True, timeout=60)
    print(picture)


if __name__ == "__main__":
    main()
