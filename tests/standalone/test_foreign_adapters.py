"""What a program registers with psycopg does not change how the queue writes and reads."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest

from procrastinate import App
from tests import database

CHANGES = {
    "lists are JSON": "register_dumper(list, JsonbDumper)",
    "texts are binary": "register_dumper(str, StrBinaryDumper)",
    "bools are numbers": "register_dumper(bool, IntDumper)",
    "bigints are texts": "register_loader('int8', TextLoader)",
    "times are texts": "register_loader('timestamptz', TextLoader)",
    "texts are loaded in binary": "register_loader('text', TextBinaryLoader)",
    "JSON is text": "register_loader('jsonb', TextLoader)",
}
PROGRAM = """
import datetime, sys
import psycopg
from psycopg.types.json import JsonbDumper
from psycopg.types.numeric import IntDumper
from psycopg.types.string import StrBinaryDumper, TextBinaryLoader, TextLoader
from procrastinate import App

url, change = sys.argv[1:]
exec(f"psycopg.adapters.{change}")
app = App(connector=url)
ran = []

@app.task(name="keep", on_conflict="replace")
def keep(value):
    ran.append(value)

later = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
with app.open(), psycopg.connect(url) as connection:
    keep.configure(queueing_lock="one").batch_defer({"value": [1, 2]}, {"value": "replaces"})
    keep.configure(schedule_at=later, lock="l", priority=3).defer(value=True)
    before = connection.adapters._dumpers, connection.adapters._loaders
    assert isinstance(keep.configure(connection=connection).defer(value="lent"), int)
    assert (connection.adapters._dumpers, connection.adapters._loaders) == before
app.run_worker(wait=False, queues=["default", "other"], install_signal_handlers=False)
with app.open():
    assert {job.status for job in app.job_manager.list_jobs()} == {"succeeded"}
print(sorted(map(repr, ran)))
"""


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_jobs_are_deferred_and_run_whatever_the_program_has_registered(database_url: str, change: str) -> None:
    command = [sys.executable, "-c", PROGRAM, database.libpq_url(database_url), change]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "[\"'lent'\", \"'replaces'\", 'True']\n"), done.stderr


def test_a_job_is_deferred_once_on_a_connection_in_pipeline_mode(database_url: str) -> None:
    app = App(connector=database_url)
    with psycopg.connect(database.libpq_url(database_url)) as connection, app.open():
        with connection.pipeline():
            connection.execute("SELECT 1")
            job_id = app.configure_task("task", connection=connection).defer(a=1)
            connection.execute("SELECT 2")
        connection.commit()
        assert [job.id for job in app.job_manager.list_jobs()] == [job_id]
