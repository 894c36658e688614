"""An app for the command: ``tests.cli.shop.app``."""

from __future__ import annotations

import os
import sys

import procrastinate

app = procrastinate.App(
    connector=os.environ.get("TESTS_CLI_DATABASE_URL", "postgresql+psycopg:///none?host=/nowhere"),
    worker_defaults={"name": "from the app"},
)
not_an_app = object()


@app.task(name="add", queueing_lock="adding")
def add(a: int = 1, b: int = 1) -> None:
    """Print a sum."""
    print(f"sum {a + b}", flush=True)


@app.task(name="wait")
def wait() -> None:
    """Tell that it runs, and end when its standard input does."""
    print("waiting", flush=True)
    sys.stdin.read()
    print("waited", flush=True)
