"""Whether the database is fit for use."""

from __future__ import annotations

import contextlib
import time

import pytest

from procrastinate import core
from tests.conformance.runs import Run
from tests.conformance.steps import Rollback, query


def test_the_jobs_table_is_found(run: Run) -> None:
    assert run(core.jobs_table_exists) is True


def test_the_clock_is_that_of_the_database(run: Run) -> None:
    before = run(core.read_clock)
    assert isinstance(before, float)
    assert abs(before - time.time()) < 60
    assert run(core.read_clock) >= before


@pytest.mark.needs_database(reason="it renames a table")
def test_a_missing_jobs_table_is_noticed(run: Run) -> None:
    with contextlib.suppress(Rollback), run.transaction():
        run(query, "ALTER TABLE procrastinate_jobs RENAME TO moved")
        assert run(core.jobs_table_exists) is False
        raise Rollback
