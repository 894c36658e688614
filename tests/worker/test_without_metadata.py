"""A program may have the package without the metadata that pip writes: a folder on the path, or one frozen file."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import sqlalchemy as sa

import procrastinate
from tests.database import libpq_url

PROGRAM = """
import importlib.metadata
import sys

def from_name(name, real=importlib.metadata.Distribution.from_name):
    if name == "procrastinate":
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

importlib.metadata.Distribution.from_name = from_name
import procrastinate

app = procrastinate.App(connector=sys.argv[1])
app.task(name="task")(lambda: None)
print(repr(procrastinate.__version__))
app.run_worker(wait=False)
"""


def test_a_worker_runs_without_the_metadata_of_the_package(database_url: str, connection: sa.Connection) -> None:
    connection.exec_driver_sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', 'task')")
    connection.commit()
    root = pathlib.Path(procrastinate.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, libpq_url(database_url)], cwd=root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "''\n"), done.stderr
    assert connection.exec_driver_sql("SELECT status FROM procrastinate_jobs").scalars().all() == ["succeeded"]
