"""A worker that is killed around the commit of its task's transaction: the effects happen exactly once."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from procrastinate.app import App
from procrastinate.core import Status
from tests.worker.running import Queue


@pytest.fixture
def effects(queue: Queue) -> None:
    """A table of the user's, in which tasks write."""
    queue.sql("CREATE TABLE effects (job_id bigint)")


def run_program(database_url: str) -> int:
    """Run a worker in a process of its own until there is nothing to do, or it dies; and return its exit code."""
    program = [sys.executable, "-m", "tests.worker.dying_program", database_url]
    done = subprocess.run(program, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def run_until_it_is_done(queue: Queue, database_url: str) -> None:
    """The first worker is killed; the second one finds it silent, and takes over its job."""
    assert run_program(database_url) == -signal.SIGKILL
    queue.sql("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
    assert run_program(database_url) == 0


def outcome(queue: Queue, job_id: int) -> tuple[Status | None, int, int, int]:
    """Status and number of runs of a job, how many effects it had, and how many follow-up jobs it deferred."""
    effects = queue.sql("SELECT count(*) FROM effects WHERE job_id = :id", id=job_id)
    follow_ups = queue.sql("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'follow up'")
    return queue.status(job_id), queue.row(job_id)["attempts"], effects, follow_ups


@pytest.mark.usefixtures("effects")
@pytest.mark.parametrize(("moment", "runs"), [("before", 2), ("after", 1)])
@pytest.mark.parametrize("task", ["sync psycopg", "async asyncpg"])
async def test_killed_around_the_commit_a_task_has_its_effects_once(
    app: App, queue: Queue, database_url: str, task: str, moment: str, runs: int
) -> None:
    """Killed before the commit, nothing of the first run is there; after it, there is no second run."""
    job_id = await app.configure_task(task).defer_async(moment=moment)
    run_until_it_is_done(queue, database_url)
    assert outcome(queue, job_id) == (Status.SUCCEEDED, runs, 1, 1)


@pytest.mark.usefixtures("effects")
async def test_a_task_that_commits_by_itself_has_them_twice(app: App, queue: Queue, database_url: str) -> None:
    """At least once is all that a queue can promise there: the harness above does find doubled effects."""
    job_id = await app.configure_task("plain").defer_async(moment="after")
    run_until_it_is_done(queue, database_url)
    assert outcome(queue, job_id) == (Status.SUCCEEDED, 2, 2, 2)
