"""Jobs without a limit pay nothing for limits."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.alembic import upgrades
from procrastinate.core import FinishedJob, JobRetry, Status
from tests.core.plans import recorded
from tests.database import new_job
from tests.faults.release import revision_named, unpack_release_before
from tests.faults.worker_process import ROOT

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
ROUNDS, MORE_AT_MOST = (100, 1.02) if LONG else (20, 1.1)
"""How often it is measured, and how much more may be taken. Few rounds say less."""
BACKLOG = 10_000 if LONG else 1000
PROGRAM = ("tests/__init__.py", "tests/core/__init__.py", "tests/core/cost_program.py")
TABLES = ("limits", "openings", "starts", "windows", "hold_offs", "turns")
SCANS = """
SELECT sum(coalesce(seq_scan, 0) + coalesce(idx_scan, 0) + n_tup_ins + n_tup_upd + n_tup_del)
FROM pg_stat_xact_user_tables WHERE relname = ANY (%(tables)s)
"""

READ_INDEXES = """
SELECT relname::text FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = 'procrastinate_jobs'::regclass AND pg_stat_get_xact_numscans(indexrelid) > 0
"""


def run_jobs(connection: sa.Connection, **job: str) -> None:
    """Defer, fetch, retry, finish and delete jobs."""
    worker_id = core.register_worker(connection)
    core.defer_job(connection, new_job(**job))
    core.defer_jobs(connection, [new_job(**job) for _ in range(9)])
    claimed = core.fetch_jobs(connection, worker_id=worker_id, limit=5)
    core.retry_jobs(connection, [JobRetry(id=job.id, attempts=0) for job in claimed[:1]], worker_id=worker_id)
    core.release_jobs(connection, claimed[1:2], worker_id=worker_id)
    ended = [FinishedJob(id=job.id, attempts=0, status=Status.SUCCEEDED, delete=job.id % 2 == 0) for job in claimed[2:]]
    core.finish_jobs(connection, ended, worker_id=worker_id)


def test_no_statement_of_a_job_without_a_limit_names_one_but_in_its_answer(connection: sa.Connection) -> None:
    with recorded(connection) as statements:
        run_jobs(connection)
    asked = [statement.partition(" RETURNING ")[0] for statement, _ in statements]
    assert len(asked) >= 7
    assert [statement for statement in asked if "limit_" in statement] == []


def test_no_trigger_of_a_job_without_a_limit_reads_or_writes_a_table_of_limits(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    core.define_limits(connection, [core.LimitDefinition(name="l", concurrency=1)])
    tables = [f"procrastinate_{table}" for table in TABLES]
    with engine.begin() as other:
        run_jobs(other)
        assert other.exec_driver_sql(SCANS, {"tables": tables}).scalar_one() == 0
    with engine.begin() as other:
        core.defer_job(other, new_job(limit_name="l", limit_key="k"))
        assert other.exec_driver_sql(SCANS, {"tables": tables}).scalar_one() > 0


def test_no_statement_or_trigger_of_a_job_without_a_limit_reads_an_index_of_limits(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    """A job is found by its id, and a fetch reads the index of ready jobs, as before there were limits."""
    core.define_limits(connection, [core.LimitDefinition(name="l", concurrency=1)])
    with engine.begin() as other:
        worker_id = core.register_worker(other)
        core.defer_job(other, new_job())
        [job] = core.fetch_jobs(other, worker_id=worker_id, limit=5)
        core.finish_jobs(other, [FinishedJob(id=job.id, attempts=0, status=Status.SUCCEEDED)], worker_id=worker_id)
        read = set(other.exec_driver_sql(READ_INDEXES).scalars())
    assert read <= {"procrastinate_jobs_pkey", "procrastinate_jobs_ready_idx"}
    with engine.begin() as other:
        core.defer_job(other, new_job(limit_name="l", limit_key="k"))
        core.admit_jobs(other)
        assert "procrastinate_jobs_line_idx" in other.exec_driver_sql(READ_INDEXES).scalars().all()


class Measured:
    """A process that measures, with the package of a release."""

    def __init__(self, root: pathlib.Path, url: str, backlog: int) -> None:
        command = [sys.executable, "-m", "tests.core.cost_program", url, str(backlog)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, stdin=pipe, stdout=pipe, text=True
        )

    def times(self) -> list[int]:
        """Return the times of the next round."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        times: list[int] = json.loads(self._process.stdout.readline())
        return times

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


@contextlib.contextmanager
def both_releases(
    database_url: str, empty_database_url: str, directory: pathlib.Path, backlog: int
) -> Iterator[list[Measured]]:
    """Start processes of the release before limits and of this one, each with its own schema."""
    brought = revision_named("0014")
    root = unpack_release_before(brought, directory / "before", PROGRAM)
    engine = sa.create_engine(empty_database_url)
    with engine.begin() as connection:
        upgrades.upgrade(connection, str(brought.down_revision))
    engine.dispose()
    measured = [Measured(root, empty_database_url, backlog), Measured(ROOT, database_url, backlog)]
    try:
        yield measured
    finally:
        for one in measured:
            one.end()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("backlog", [0, BACKLOG], ids=["no backlog", "a backlog"])
def test_a_job_without_a_limit_takes_no_more_processor_time_than_before_there_were_limits(
    database_url: str, empty_database_url: str, tmp_path: pathlib.Path, backlog: int
) -> None:
    with both_releases(database_url, empty_database_url, tmp_path, backlog) as measured:
        rounds = [[one.times() for one in measured] for _ in range(ROUNDS)][ROUNDS // 10 :]
    ratios = {}
    for place, step in enumerate(("defer", "fetch", "finish")):
        before, now = (statistics.quantiles([one[which][place] for one in rounds], n=4)[0] for which in (0, 1))
        ratios[step] = round(now / before, 3)
        print(f"{step}: {before / 1e3 / 500:.1f} µs a job before there were limits, {now / 1e3 / 500:.1f} µs now")
    assert all(ratio <= MORE_AT_MOST for ratio in ratios.values()), ratios
