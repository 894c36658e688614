"""Jobs that are gone leave nothing behind that a later job of their number would inherit, however they went."""

from __future__ import annotations

import pathlib
import re

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, JobRetry, NewError, Status, UniqueJob, UniqueKey
from tests.conformance.steps import query
from tests.database import new_job
from tests.schema.dumps import FILL_WORKFLOW_TABLES, WORKFLOW_TABLES
from tests.schema.dumps import TABLES as ALL_TABLES

ERROR = NewError(exception_class="ValueError", message="of the former job", traceback="...")
TABLES = tuple(table for table in ALL_TABLES if table not in WORKFLOW_TABLES)
PARTS = tuple(table for table in TABLES if table != "workers")
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "database.md"


def fill(connection: sa.Connection) -> int:
    """Let each table have a row of job 1, and return the id of a worker."""
    core.defer_tick(connection, new_job(), periodic_id="", defer_timestamp=1)
    worker_id = core.register_worker(connection)
    core.fetch_jobs(connection, worker_id=worker_id, limit=1)
    core.retry_jobs(connection, [JobRetry(id=1, attempts=0, error=ERROR)], worker_id=worker_id)
    core.promote_jobs(connection)
    core.fetch_jobs(connection, worker_id=worker_id, limit=1)
    core.finish_jobs(
        connection, [FinishedJob(id=1, attempts=1, status=Status.SUCCEEDED, result="1")], worker_id=worker_id
    )
    assert all(count(connection, part) for part in PARTS)
    return worker_id


def count(connection: sa.Connection, part: str) -> int:
    """The number of rows of a table."""
    return int(connection.exec_driver_sql(f"SELECT count(*) FROM procrastinate_{part}").scalar_one())  # noqa: S608


def test_truncate_of_the_jobs_empties_the_workflows(connection: sa.Connection) -> None:
    connection.exec_driver_sql(FILL_WORKFLOW_TABLES)
    connection.exec_driver_sql("TRUNCATE procrastinate_jobs")
    assert [count(connection, part) for part in WORKFLOW_TABLES] == [0, 0, 0]


def test_the_page_on_the_database_lists_the_tables_that_truncate_of_the_jobs_empties(connection: sa.Connection) -> None:
    source = "SELECT prosrc FROM pg_proc WHERE oid = to_regproc('procrastinate_jobs_truncated')"
    (emptied,) = re.findall(r"ARRAY\[(.*?)\]", connection.exec_driver_sql(source).scalar_one())
    _, found, rest = PAGE.read_text().partition("also empties these tables")
    listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^- .*\n", rest.partition("\n## ")[0], re.MULTILINE)))
    assert found
    assert sorted(listed) == sorted(re.findall(r"\w+", emptied))


def test_truncate_of_the_jobs_frees_their_unique_keys(connection: sa.Connection) -> None:
    """Another job has the number of the holder then."""
    job = UniqueJob(job=new_job(), unique=UniqueKey(key="k", until="end"))
    core.defer_unique_job(connection, job, on_conflict="raise")
    connection.exec_driver_sql("TRUNCATE procrastinate_jobs RESTART IDENTITY")
    assert core.defer_job(connection, new_job()) == 1
    assert core.defer_unique_job(connection, job, on_conflict="raise").ids == (2,)


@pytest.mark.parametrize("options", ["", "CASCADE", "RESTART IDENTITY", "RESTART IDENTITY CASCADE"])
@pytest.mark.parametrize(
    "others",
    ["", ", procrastinate_events", ", procrastinate_results, procrastinate_errors, procrastinate_periodic_defers"],
)
def test_truncate_of_the_jobs_empties_what_belongs_to_them(
    connection: sa.Connection, others: str, options: str
) -> None:
    fill(connection)
    connection.exec_driver_sql(f"TRUNCATE procrastinate_jobs{others} {options}")
    assert [count(connection, part) for part in PARTS] == [0] * len(PARTS)


def test_a_job_that_has_the_number_of_a_truncated_one_starts_from_nothing(connection: sa.Connection) -> None:
    fill(connection)
    connection.exec_driver_sql("TRUNCATE procrastinate_jobs RESTART IDENTITY")
    assert core.defer_tick(connection, new_job(), periodic_id="", defer_timestamp=1).job_id == 1
    assert query(connection, "SELECT job_id, type::text FROM procrastinate_events") == [(1, "deferred")]
    assert core.get_job_status(connection, 1) is Status.TODO


def test_truncate_with_an_older_snapshot_empties_what_it_does_not_see(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as other, other.begin():
        assert count(other, "jobs") == 0
        fill(connection)
        other.exec_driver_sql("TRUNCATE procrastinate_jobs")
    assert [count(connection, part) for part in PARTS] == [0] * len(PARTS)


def test_a_truncate_that_is_rolled_back_takes_nothing(engine: sa.Engine, connection: sa.Connection) -> None:
    fill(connection)
    with engine.connect() as other:
        other.exec_driver_sql("TRUNCATE procrastinate_jobs")
        other.rollback()
    assert all(count(connection, part) for part in PARTS)


def test_delete_of_all_jobs_empties_their_history_and_lets_go_of_their_ticks(connection: sa.Connection) -> None:
    fill(connection)
    connection.exec_driver_sql("DELETE FROM procrastinate_jobs")
    assert [count(connection, part) for part in ("jobs", "events", "results", "errors")] == [0, 0, 0, 0]
    assert query(connection, "SELECT job_id FROM procrastinate_periodic_defers") == [(None,)]


@pytest.mark.parametrize("part", ["events", "results", "errors", "periodic_defers", "workers"])
def test_truncate_of_another_table_leaves_the_rest(connection: sa.Connection, part: str) -> None:
    fill(connection)
    connection.exec_driver_sql(f"TRUNCATE procrastinate_{part} RESTART IDENTITY")
    assert count(connection, part) == 0
    assert all(count(connection, other) for other in TABLES if other != part)
    assert core.defer_job(connection, new_job()) == 2


def test_truncate_needs_the_right_to_empty_the_history(connection: sa.Connection) -> None:
    """As TRUNCATE ... CASCADE asks for the right on each table that it reaches."""
    fill(connection)
    role = f"sweeper_{connection.engine.url.database}"
    connection.exec_driver_sql(f"CREATE ROLE {role}; GRANT SELECT, TRUNCATE ON procrastinate_jobs TO {role}")
    try:
        connection.exec_driver_sql(f"SET ROLE {role}")
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied for table procrastinate_events"):
            connection.exec_driver_sql("TRUNCATE procrastinate_jobs")
        connection.exec_driver_sql("RESET ROLE")
        assert count(connection, "jobs") == 1
    finally:
        connection.exec_driver_sql(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")
