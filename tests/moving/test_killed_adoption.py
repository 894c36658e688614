"""Processes that upgrade tables of 3.10 are killed on the way, and the next one goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psycopg
import pytest

from tests.database import Databases, libpq_url
from tests.moving.release import PROGRAMS, command_3x, environment_of
from tests.moving.rows import execute, rows
from tests.moving.test_adoption import apply_schema, snapshot_of, without_rests

CUTS = int(os.environ.get("PROCRASTINATE_ADOPTION_CUTS", "5"))
"""At how many places a process is killed. There are about 370 statements."""


def adopt_and_die(url: str, *, after: int) -> subprocess.CompletedProcess[str]:
    """Adopt in a process that kills itself after a number of statements, and prints their number if it comes so far."""
    return subprocess.run(
        [sys.executable, "adopts_and_dies.py", str(after)],
        env=environment_of(url),
        cwd=PROGRAMS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="session")
def number_of_statements(databases: Databases, filled_template_of_3x: str) -> int:
    """How many statements an adoption executes, with the revisions after it."""
    url = databases.clone(filled_template_of_3x)
    done = adopt_and_die(url, after=0)
    databases.drop(url)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("cut", range(CUTS))
def test_3x_works_after_a_kill_at_any_statement_and_the_next_run_goes_on(
    filled_url: str, database_url: str, number_of_statements: int, cut: int
) -> None:
    after = 1 + number_of_statements * cut // CUTS + cut % 2
    assert adopt_and_die(filled_url, after=after).returncode == -signal.SIGKILL
    command_3x(filled_url, "defer", "add", '{"a": 7, "b": 7}')
    command_3x(filled_url, "worker", "--one-shot")
    # Before the adoption, 3.x lets a job wait behind one of the future with the same lock, "second".
    ready = "coalesce(lock, '') NOT IN ('second', 'third') AND coalesce(scheduled_at, now()) <= now()"
    left = f"SELECT id FROM procrastinate_jobs WHERE status = 'todo' AND {ready}"  # noqa: S608
    assert execute(filled_url, left) == []
    execute(filled_url, "UPDATE procrastinate_jobs SET worker_id = NULL")
    before = rows(filled_url)
    apply_schema(filled_url)
    execute(filled_url, "UPDATE procrastinate_jobs SET worker_id = NULL")
    assert rows(filled_url) == before
    assert without_rests(snapshot_of(filled_url)) == without_rests(snapshot_of(database_url))


def test_a_process_that_is_killed_in_the_middle_of_an_index_leaves_work_that_is_gone_on_with(
    filled_url: str, database_url: str
) -> None:
    """An open transaction that has written a job keeps the index from being finished."""
    code = "import os, plain_app; plain_app.app.open(); plain_app.app.schema_manager.apply_schema(report=print)"
    unfinished = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    with psycopg.connect(libpq_url(filled_url)) as holder:
        holder.execute("LOCK TABLE procrastinate_periodic_defers IN ROW EXCLUSIVE MODE")
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment_of(filled_url), cwd=PROGRAMS, stdout=subprocess.DEVNULL
        )
        while execute(filled_url, unfinished) == [(0,)]:
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.wait()
    apply_schema(filled_url)
    assert execute(filled_url, unfinished) == [(0,)]
    assert without_rests(snapshot_of(filled_url)) == without_rests(snapshot_of(database_url))
