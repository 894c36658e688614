"""A program may have the package without the metadata that pip writes: a folder on the path, or one frozen file."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import zipfile

import psycopg
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


PROGRAM_WITHOUT_TABLES = """
import sys
import procrastinate

app = procrastinate.App(connector=sys.argv[1])
app.task(name="task")(lambda: None)
try:
    app.run_worker(wait=False)
except procrastinate.exceptions.SchemaNotApplied as error:
    print(error)
with app.open():
    app.schema_manager.apply_schema()
    app.configure_task("task").defer()
app.run_worker(wait=False)
print(procrastinate.__file__)
"""


def test_a_package_in_an_archive_applies_its_schema_and_runs_jobs(
    empty_database_url: str, tmp_path: pathlib.Path
) -> None:
    """As in a zipapp. Alembic reads files, which an archive has none of."""
    root = pathlib.Path(procrastinate.__file__).parents[1]
    archive = tmp_path / "packages.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((root / "procrastinate").rglob("*.*")):
            if "__pycache__" not in path.parts:
                file.write(path, path.relative_to(root))
    done = run_program(PROGRAM_WITHOUT_TABLES, empty_database_url, tmp_path, PYTHONPATH=str(archive))
    assert done.stdout.splitlines()[1:] == [f"{archive}/procrastinate/__init__.py"], done.stderr
    assert statuses(empty_database_url) == ["succeeded"]


def test_a_program_without_docstrings_is_told_what_to_do(empty_database_url: str, tmp_path: pathlib.Path) -> None:
    """``python -OO`` drops them."""
    root = str(pathlib.Path(procrastinate.__file__).parents[1])
    done = run_program(PROGRAM_WITHOUT_TABLES, empty_database_url, tmp_path, "-OO", PYTHONPATH=root)
    assert "run `procrastinate schema --apply`" in done.stdout, done.stderr
    assert statuses(empty_database_url) == ["succeeded"]


def run_program(
    program: str | None, url: str, folder: pathlib.Path, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder of its own, so that it imports the package from the path that it is given.

    Without a program, the options name its file.
    """
    text = [] if program is None else ["-c", program]
    command = [sys.executable, *options, *text, libpq_url(url)]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def statuses(url: str) -> list[str]:
    """Return the statuses of all jobs."""
    with psycopg.connect(libpq_url(url)) as connection:
        return [status for (status,) in connection.execute("SELECT status::text FROM procrastinate_jobs")]
