"""What is shown of a key of a limit, and what the sweep opens, if the first job in line is too heavy to ever start."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import LimitDefinition, RateTerms
from tests.conformance.steps import query
from tests.database import new_job

HOUR = 3600.0
NUMBERS = [
    {"concurrency": 2},
    {"total": 2},
    {"rates": (RateTerms(2, HOUR),)},
    {"total_rates": (RateTerms(2, HOUR),)},
]


def defer(connection: sa.Connection, **job: Any) -> int:
    return core.defer_job(connection, new_job(limit_name="l", limit_key="k", **job))


@pytest.mark.parametrize("numbers", NUMBERS, ids=lambda numbers: next(iter(numbers)))
def test_the_next_job_of_a_key_is_one_that_can_start(connection: sa.Connection, numbers: dict[str, Any]) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", **numbers)])
    defer(connection, limit_weight=3)
    light = defer(connection, limit_weight=2)
    shown = core.show_limit(connection, "l", "k")
    assert (shown.in_line, shown.next_id, shown.next_weight, shown.next_start) == (2, light, 2, None)


def test_no_job_is_next_if_all_are_too_heavy(connection: sa.Connection) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=2)])
    defer(connection, limit_weight=3)
    shown = core.show_limit(connection, "l", "k")
    assert (shown.in_line, shown.next_id, shown.next_weight) == (1, None, 1)


def test_the_sweep_counts_the_workers_of_the_queue_of_the_job_that_can_start(connection: sa.Connection) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=2, fair=True)])
    core.register_worker(connection)
    query(connection, "UPDATE procrastinate_workers SET concurrency = 2, queues = '{busy}'")
    running = defer(connection, queue_name="gone")
    assert running == 1
    query(connection, "UPDATE procrastinate_jobs SET status = 'doing', worker_id = 9 WHERE id = 1")
    defer(connection, queue_name="empty", limit_weight=3)
    defer(connection, queue_name="busy")
    query(connection, "DELETE FROM procrastinate_openings")
    assert core.sweep_lines(connection).opened == 1
