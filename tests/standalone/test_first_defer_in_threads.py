"""The first defer of a program may happen while another thread starts a worker, which imports SQLAlchemy's ORM."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.database import libpq_url

PROGRAM = """
import sys, threading, time

from procrastinate import App, SyncPsycopgConnector

sys.setswitchinterval(0.0005)
app = App(connector=SyncPsycopgConnector(conninfo=sys.argv[1]))


@app.task(name="shop.note")
def note() -> None: ...


importer = threading.Thread(target=lambda: __import__("sqlalchemy.ext.asyncio"))
importer.start()
time.sleep(float(sys.argv[2]))
with app.open():
    note.defer()
importer.join()
"""


@pytest.mark.parametrize("milliseconds", [0, 5, 10, 20])
def test_a_program_can_defer_while_another_thread_imports_the_orm(database_url: str, milliseconds: int) -> None:
    """SQLAlchemy makes no statement with a plain value during that import. Some of these programs failed."""
    command = [sys.executable, "-c", PROGRAM, libpq_url(database_url), str(milliseconds / 1000)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
