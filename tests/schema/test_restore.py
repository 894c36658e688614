"""Jobs that are restored or copied come with their history: the triggers add nothing to it."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, JobRetry, NewError, Status
from tests.conformance.runs import SyncRun
from tests.conformance.steps import defer, fetch_ids, fetch_one, worker
from tests.database import Databases, libpq_url, new_job
from tests.schema.dumps import FILL_WORKFLOW_TABLES, TABLES, contents, dump_data, run_script, run_tool

ERROR = NewError(exception_class="ValueError", message="first", traceback="...")


@pytest.fixture
def filled_url(database_url: str) -> str:
    """A database with a job in each state, ticks, results, errors, and a worker that runs a job."""
    engine = sa.create_engine(database_url)
    run = SyncRun(engine)
    worker_id = worker(run)
    for outcome in (
        FinishedJob(id=defer(run), attempts=0, status=Status.SUCCEEDED, result='{"a": 1}'),
        FinishedJob(id=defer(run), attempts=0, status=Status.FAILED, error=ERROR),
    ):
        fetch_one(run, worker_id)
        run(core.finish_jobs, [outcome], worker_id=worker_id)
    defer(run, lock="held")
    fetch_one(run, worker_id)
    retried = defer(run)
    fetch_one(run, worker_id)
    run(core.retry_jobs, [JobRetry(id=retried, attempts=0, retry_in=3600.0, error=ERROR)], worker_id=worker_id)
    defer(run, lock="held", queueing_lock="q")
    run(core.promote_jobs)
    run(core.defer_tick, new_job(task_name="tick"), periodic_id="", defer_timestamp=1)
    run(core.cancel_job, defer(run))
    engine.dispose()
    run_script(database_url, FILL_WORKFLOW_TABLES)
    return database_url


@pytest.fixture
def other_url(databases: Databases) -> Iterator[str]:
    """A second database with the schema, and nothing else."""
    url = databases.create_migrated()
    yield url
    databases.drop(url)


@pytest.mark.parametrize("options", [(), ("--inserts",), ("--column-inserts",), ("--disable-triggers",)], ids=str)
def test_a_data_only_script_restores_the_rows_as_they_were(
    filled_url: str, other_url: str, options: tuple[str, ...]
) -> None:
    before = contents(filled_url)
    assert all(before.values())
    run_script(other_url, dump_data(filled_url, *options))
    assert contents(other_url) == before


OPENINGS = "SELECT id, limit_name, limit_key FROM procrastinate_openings"


def test_a_restore_adds_no_opening_for_a_job_in_the_line_of_a_limit(database_url: str, other_url: str) -> None:
    run_script(
        database_url,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, limit_name, limit_key, readiness, scheduled_at) "
        "VALUES ('default', 'task', 'one', 'key', 3, now())",
    )
    before = run_script(database_url, OPENINGS)
    assert "one" in before
    run_script(other_url, dump_data(database_url))
    assert run_script(other_url, OPENINGS) == before


@pytest.mark.parametrize("options", [(), ("--jobs=3",)], ids=str)
def test_a_data_only_archive_restores_the_rows_as_they_were(
    filled_url: str, other_url: str, tmp_path: pathlib.Path, options: tuple[str, ...]
) -> None:
    archive = tmp_path / "archive"
    dump_data(filled_url, "--format=custom", f"--file={archive}")
    run_tool("pg_restore", "--data-only", *options, f"--dbname={libpq_url(other_url)}", str(archive))
    assert contents(other_url) == contents(filled_url)


@pytest.mark.parametrize("order", [TABLES, TABLES[::-1]], ids=["jobs first", "jobs last"])
def test_single_tables_can_be_restored_in_any_order(filled_url: str, other_url: str, order: tuple[str, ...]) -> None:
    for table in order:
        run_script(other_url, dump_data(filled_url, f"--table=procrastinate_{table}"))
    assert contents(other_url) == contents(filled_url)


@pytest.mark.parametrize("order", [TABLES, TABLES[::-1]], ids=["jobs first", "jobs last"])
def test_copy_by_hand_restores_the_rows_as_they_were(
    filled_url: str, other_url: str, tmp_path: pathlib.Path, order: tuple[str, ...]
) -> None:
    """The sequences are behind, as COPY leaves them, and the session has no setting."""
    for table in order:
        run_script(filled_url, f"\\copy procrastinate_{table} TO '{tmp_path / table}'\n")
        run_script(other_url, f"\\copy procrastinate_{table} FROM '{tmp_path / table}'\n")
    assert contents(other_url) == contents(filled_url)


def test_a_restore_over_numbers_that_were_drawn_before_adds_no_history(filled_url: str) -> None:
    """TRUNCATE leaves the sequences where they are."""
    dump, before = dump_data(filled_url), contents(filled_url)
    run_script(filled_url, "TRUNCATE procrastinate_jobs, procrastinate_workers")
    run_script(filled_url, dump)
    assert contents(filled_url) == before


def test_a_copy_by_hand_over_numbers_that_were_drawn_before_has_a_setting(
    filled_url: str, tmp_path: pathlib.Path
) -> None:
    before = contents(filled_url)
    for table in TABLES:
        run_script(filled_url, f"\\copy procrastinate_{table} TO '{tmp_path / table}'\n")
    run_script(filled_url, "TRUNCATE procrastinate_jobs, procrastinate_workers")
    script = "".join(f"\\copy procrastinate_{table} FROM '{tmp_path / table}'\n" for table in TABLES)
    run_script(filled_url, f"SET procrastinate.restoring = on;\n{script}")
    assert contents(filled_url) == before


def test_a_whole_dump_restores_tables_that_work(filled_url: str, empty_database_url: str) -> None:
    before = contents(filled_url)
    run_script(empty_database_url, run_tool("pg_dump", f"--dbname={libpq_url(filled_url)}"))
    assert contents(empty_database_url) == before
    engine = sa.create_engine(empty_database_url)
    assert defer(SyncRun(engine)) == 8
    engine.dispose()
    assert len(contents(empty_database_url)["events"]) == len(before["events"]) + 1


def test_workers_run_what_was_restored(filled_url: str, other_url: str) -> None:
    """The worker of the dump is pruned: its job is rescued, and the next one of its lock runs after it."""
    run_script(other_url, dump_data(filled_url))
    run_script(other_url, "DELETE FROM procrastinate_workers")
    engine = sa.create_engine(other_url)
    run = SyncRun(engine)
    worker_id = worker(run)
    rescued = [job.id for job in run(core.rescue_jobs, max_rescues=3)]
    assert rescued == [3]
    assert fetch_ids(run, worker_id) == [3, 6]
    run(core.finish_jobs, [FinishedJob(id=3, attempts=1, status=Status.SUCCEEDED)], worker_id=worker_id)
    assert fetch_ids(run, worker_id) == [5]
    assert defer(run) == 8
    engine.dispose()


def test_a_new_job_has_its_history_after_a_restore(filled_url: str, other_url: str) -> None:
    run_script(other_url, dump_data(filled_url))
    engine = sa.create_engine(other_url)
    job_id = defer(SyncRun(engine))
    engine.dispose()
    assert [event.split("\t")[1:3] for event in contents(other_url)["events"]][-1] == [str(job_id), "deferred"]
