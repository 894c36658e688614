"""Limits whose rows are gone, or that have no numbers: no job gets a slot until a worker defines them."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FetchedJob, FinishedJob, LimitDefinition, RateTerms, Status
from tests.conformance.steps import query
from tests.database import new_job

HOUR = 3600.0
PROMOTED = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo' AND readiness = 1"
IN_LINE = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo' AND readiness = 3"
GONE = {
    "no row": "TRUNCATE procrastinate_limits",
    "no numbers": "UPDATE procrastinate_limits SET concurrency = NULL, rates = NULL",
}


def define(connection: sa.Connection, **numbers: Any) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", **numbers)])


def admit(connection: sa.Connection) -> None:
    with connection.engine.begin() as other:
        core.admit_jobs(other)


def fetch(connection: sa.Connection, worker_id: int) -> list[int]:
    return [job.id for job in core.fetch_jobs(connection, worker_id=worker_id, limit=100)]


def start(connection: sa.Connection, number: int, **numbers: Any) -> tuple[int, list[int]]:
    """Define the limit, defer jobs, start those that get slots, and return the worker and their ids."""
    define(connection, **numbers)
    core.defer_jobs(connection, [new_job(limit_name="l", limit_key="k") for _ in range(number)])
    admit(connection)
    worker_id = core.register_worker(connection)
    return worker_id, fetch(connection, worker_id)


def finish(connection: sa.Connection, worker_id: int, *job_ids: int) -> None:
    finished = [FinishedJob(id=job_id, attempts=0, status=Status.SUCCEEDED) for job_id in job_ids]
    core.finish_jobs(connection, finished, worker_id=worker_id)


@pytest.mark.parametrize("gone", GONE)
def test_a_job_that_ends_hands_on_no_slot_of_a_limit_that_is_not_defined(connection: sa.Connection, gone: str) -> None:
    worker_id, running = start(connection, 6, concurrency=2)
    query(connection, GONE[gone])
    finish(connection, worker_id, *running)
    assert query(connection, PROMOTED) == [(0,)]
    define(connection, concurrency=3)
    admit(connection)
    assert query(connection, PROMOTED) == [(3,)]


@pytest.mark.parametrize("gone", GONE)
def test_a_start_counts_although_its_limit_is_not_defined(connection: sa.Connection, gone: str) -> None:
    """Its job got the slot when the limit had a rate, and the rate counts it when it is defined again."""
    define(connection, rates=(RateTerms(3, HOUR),))
    core.defer_jobs(connection, [new_job(limit_name="l", limit_key="k") for _ in range(6)])
    admit(connection)
    query(connection, GONE[gone])
    worker_id = core.register_worker(connection)
    assert len(fetch(connection, worker_id)) == 3
    define(connection, rates=(RateTerms(3, HOUR),))
    admit(connection)
    assert fetch(connection, worker_id) == []


def test_a_start_of_a_limit_without_rates_is_not_recorded(connection: sa.Connection) -> None:
    assert len(start(connection, 2, concurrency=2)[1]) == 2
    assert query(connection, "SELECT FROM procrastinate_starts") == []


@pytest.mark.parametrize("gone", GONE)
def test_a_job_that_is_given_back_gets_in_line_of_a_limit_that_is_not_defined(
    connection: sa.Connection, gone: str
) -> None:
    """Its limit may have a rate, which has counted one start alone."""
    worker_id, [job_id] = start(connection, 2, rates=(RateTerms(1, HOUR),))
    query(connection, GONE[gone])
    core.release_jobs(connection, [FetchedJob(id=job_id, attempts=0)], worker_id=worker_id)
    assert query(connection, IN_LINE) == [(2,)]
    define(connection, rates=(RateTerms(1, HOUR),))
    admit(connection)
    assert fetch(connection, worker_id) == []
