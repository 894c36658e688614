"""A downgrade with many jobs in line: no table is locked for long, and the jobs do not all start at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.alembic import empty_lines, upgrades
from procrastinate.core import LimitDefinition, RateTerms
from tests.conformance.steps import query
from tests.database import libpq_url

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
JOBS = 1_000_000 if LONG else 200_000
FILL = """
INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at, readiness, limit_name, limit_key)
SELECT 'q', 't', now(), 3, 'l', 'key ' || mod(n, 100) FROM generate_series(1, :number) AS one (n)
"""
INSERT = "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('other', 't')"
IN_LINE = "SELECT count(*) FROM procrastinate_jobs WHERE queue_name = 'q' AND readiness = 3"
LIMITS = {
    "concurrency": LimitDefinition(name="l", concurrency=1),
    "rate": LimitDefinition(name="l", rates=(RateTerms(1, 3600.0),)),
    "fair": LimitDefinition(name="l", fair=True),
}


def fill(connection: sa.Connection, kind: str, number: int) -> None:
    """Put jobs in line of a limit, without a trigger for each."""
    core.define_limits(connection, [LIMITS[kind]])
    query(connection, "SET session_replication_role = replica")
    query(connection, FILL, number=number)
    query(connection, "SET session_replication_role = origin")
    query(connection, "ANALYZE procrastinate_jobs")


@pytest.fixture
def writer(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(libpq_url(database_url), autocommit=True) as writer:
        yield writer


def longest_write_during(writer: psycopg.Connection[Any], migration: Future[None]) -> float:
    """Write until the migration has ended, and return the longest time of a write."""
    longest = 0.0
    while not migration.done():
        start = time.monotonic()
        writer.execute(INSERT)
        longest = max(longest, time.monotonic() - start)
    migration.result()
    return longest


@pytest.mark.timeout(600 if LONG else 180)
@pytest.mark.parametrize(
    ("kind", "revision"),
    [("concurrency", "procrastinate_0013"), ("rate", "procrastinate_0014"), ("fair", "procrastinate_0017")],
)
def test_a_writer_does_not_wait_for_the_jobs_in_line(
    connection: sa.Connection, engine: sa.Engine, writer: psycopg.Connection[Any], kind: str, revision: str
) -> None:
    fill(connection, kind, JOBS)

    def downgrade() -> None:
        if kind == "concurrency":
            with engine.connect() as autocommit:
                empty_lines.empty_lines(autocommit.execution_options(isolation_level="AUTOCOMMIT"))
        with engine.begin() as owner:
            upgrades.downgrade(owner, revision)

    with ThreadPoolExecutor(1) as threads:
        assert longest_write_during(writer, threads.submit(downgrade)) < 1
    assert query(connection, IN_LINE) == [(0 if kind == "concurrency" else JOBS,)]


@pytest.mark.parametrize(("kind", "revision"), [("rate", "procrastinate_0014"), ("fair", "procrastinate_0017")])
def test_jobs_of_a_limit_that_the_older_release_does_not_know_wait(
    connection: sa.Connection, engine: sa.Engine, kind: str, revision: str
) -> None:
    """A limit without a row is one that no worker has defined."""
    fill(connection, kind, 3)
    with engine.begin() as owner:
        upgrades.downgrade(owner, revision)
    assert query(connection, IN_LINE) == [(3,)]
    assert query(connection, "SELECT count(*) FROM procrastinate_limits") == [(0,)]


def test_a_limit_keeps_the_numbers_that_the_older_release_knows(connection: sa.Connection, engine: sa.Engine) -> None:
    both = LimitDefinition(name="l", concurrency=2, rates=(RateTerms(1, 3600.0),), fair=True)
    core.define_limits(connection, [both])
    with engine.begin() as owner:
        upgrades.downgrade(owner, "procrastinate_0014")
    assert query(connection, "SELECT name, concurrency FROM procrastinate_limits") == [("l", 2)]


def test_jobs_that_get_in_line_later_leave_it_with_the_revision(connection: sa.Connection, engine: sa.Engine) -> None:
    fill(connection, "concurrency", 3)
    with engine.connect() as autocommit:
        empty_lines.empty_lines(autocommit.execution_options(isolation_level="AUTOCOMMIT"))
    assert query(connection, IN_LINE) == [(0,)]
    fill(connection, "concurrency", 2)
    with engine.begin() as owner:
        empty_lines.empty_lines(owner)
        assert query(owner, IN_LINE) == [(2,)]
        upgrades.downgrade(owner, "procrastinate_0013")
    assert query(connection, "SELECT DISTINCT readiness FROM procrastinate_jobs") == [(0,)]
