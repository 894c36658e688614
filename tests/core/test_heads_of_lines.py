"""The first jobs in line are locked after they were read, and may have changed in between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import LimitDefinition
from procrastinate.core.lines import Lines, read_held
from procrastinate.core.share import LimitTerms
from tests.database import new_job

TERMS = LimitTerms(concurrency=2)


@pytest.fixture
def lines(engine: sa.Engine) -> Iterator[Lines]:
    """Return the lines of a limit, as an admission has read them: four jobs of two priorities are in line."""
    with engine.begin() as connection:
        core.define_limits(connection, [LimitDefinition(name="l", concurrency=2)])
        for priority in (0, 5, 0, 5):
            core.defer_job(connection, new_job(limit_name="l", limit_key="k", priority=priority))
    with engine.begin() as connection:
        read = Lines(connection, "l", TERMS, read_held(connection, "l", TERMS), paused=(), set_aside=())
        read.read_keys({"k"})
        yield read


def _change(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(statement))


@pytest.mark.parametrize("number", [1, 3, 4])
def test_the_jobs_of_higher_priorities_are_locked_first(lines: Lines, number: int) -> None:
    assert [row.id for row in lines.lock_heads({"k": number}, ())] == [2, 4, 1, 3][:number]


def test_a_job_whose_priority_is_raised_at_this_moment_is_the_first(lines: Lines, engine: sa.Engine) -> None:
    _change(engine, "UPDATE procrastinate_jobs SET priority = 9 WHERE id = 3")
    assert [row.id for row in lines.lock_heads({"k": 2}, ())] == [3, 2]


def test_the_only_job_in_line_is_found_when_its_priority_is_raised_at_this_moment(
    lines: Lines, engine: sa.Engine
) -> None:
    _change(engine, "DELETE FROM procrastinate_jobs WHERE id <> 2")
    _change(engine, "UPDATE procrastinate_jobs SET priority = 9")
    assert [row.id for row in lines.lock_heads({"k": 1}, ())] == [2]
