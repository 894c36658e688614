"""What the loads of limits read of long lines and of many keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from procrastinate.core import inspection
from tests.core.plans import explain
from tests.core.test_inspection_plans import check
from tests.core.test_query_plans import fill
from tests.database import Databases

_LIMITED = (
    """
    INSERT INTO procrastinate_limits (name, concurrency, rates)
    SELECT 'limit ' || n, 5, '100000/3600.0' FROM generate_series(1, 60) AS n
    """,
    """
    INSERT INTO procrastinate_jobs (queue_name, task_name, limit_name, limit_key, readiness, scheduled_at)
    SELECT 'limited', 'limited', 'limit ' || 1 + mod(n, 50), CASE WHEN n < 60000 THEN 'one' ELSE 'key ' || n END, 3,
        now()
    FROM generate_series(1, 120000) AS n
    """,
    """
    INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id, limit_name, limit_key)
    SELECT 'limited', 'limited', 'doing', 1, 'limit 1', CASE WHEN n < 2000 THEN 'one' ELSE 'key ' || n END
    FROM generate_series(1, 4000) AS n
    """,
)


@pytest.fixture(scope="module", params=[False, True], ids=["no statistics", "statistics"])
def limited_engine(request: pytest.FixtureRequest, databases: Databases) -> Iterator[sa.Engine]:
    """An engine on a full database with 60 limits, and 120,000 jobs in line at many keys."""
    url = databases.create_migrated()
    fill(url, analysed=False)
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in _LIMITED:
            connection.exec_driver_sql(statement)
        if request.param:
            connection.exec_driver_sql("VACUUM ANALYZE")
    yield engine
    engine.dispose()
    databases.drop(url)


@pytest.fixture
def limited(limited_engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection to that database."""
    with limited_engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        yield connection


def test_the_limits_read_a_part_of_their_lines(limited: sa.Connection) -> None:
    check(explain(limited, inspection.load_limits), buffers=120_000, rows=50_100)


@pytest.mark.parametrize("after", [None, "key 70000"])
def test_a_limit_reads_a_part_of_the_lines_of_its_keys(limited: sa.Connection, after: str | None) -> None:
    check(explain(limited, inspection.load_limit, "limit 1", after=after), buffers=60_000, rows=12_000)


def test_a_key_of_a_limit_reads_the_head_of_its_line(limited: sa.Connection) -> None:
    check(explain(limited, inspection.load_limit_key, "limit 1", "one"), buffers=60_000, rows=10_001)


def test_the_reason_of_a_limited_job_reads_the_head_of_its_line(limited: sa.Connection) -> None:
    statement = (
        "SELECT min(id) FROM procrastinate_jobs WHERE limit_name = 'limit 1' AND limit_key = 'one' AND readiness = 3"
    )
    job_id = limited.exec_driver_sql(statement).scalar_one()
    limited.rollback()
    check(explain(limited, inspection.explain_job, job_id), buffers=60_000, rows=10_101)
