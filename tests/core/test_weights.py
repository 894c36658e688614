"""Weights of jobs in rates, in fair limits, in many sessions, and next to workers that do not know them."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, LimitDefinition, RateTerms, Status
from procrastinate.core.steering import run_job_again
from tests.conformance.steps import query
from tests.database import new_job

HOUR = 3600.0


def define(connection: sa.Connection, *rates: RateTerms, **numbers: Any) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", rates=rates, **numbers)])


def defer(connection: sa.Connection, *weights: int, key: str = "k") -> list[int]:
    jobs = [new_job(limit_name="l", limit_key=key, limit_weight=weight) for weight in weights]
    return core.defer_jobs(connection, jobs)


def admit(connection: sa.Connection) -> core.Admission:
    with connection.engine.begin() as other:
        return core.admit_jobs(other)


def admit_like_the_release_before(connection: sa.Connection, *job_ids: int) -> None:
    connection.execute(
        sa.text("UPDATE procrastinate_jobs SET readiness = 1 WHERE id = ANY (:ids) AND readiness = 3"),
        {"ids": list(job_ids)},
    )


def with_slot(connection: sa.Connection) -> list[int]:
    rows = query(connection, "SELECT id FROM procrastinate_jobs WHERE status = 'todo' AND readiness = 1 ORDER BY id")
    return [job_id for (job_id,) in rows]


@pytest.fixture
def worker_id(connection: sa.Connection) -> int:
    return core.register_worker(connection)


@pytest.fixture
def start(connection: sa.Connection, worker_id: int) -> Callable[[], list[int]]:
    """Give slots, and claim all jobs that have one."""

    def start() -> list[int]:
        admit(connection)
        return [job.id for job in core.fetch_jobs(connection, worker_id=worker_id, limit=100)]

    return start


def finish(connection: sa.Connection, worker_id: int, *job_ids: int) -> None:
    finished = [FinishedJob(id=job_id, attempts=0, status=Status.SUCCEEDED) for job_id in job_ids]
    core.finish_jobs(connection, finished, worker_id=worker_id)


@pytest.mark.parametrize("of_all", [False, True], ids=["of a key", "of all keys"])
def test_a_job_counts_for_a_rate_as_often_as_its_weight(connection: sa.Connection, start: Any, of_all: bool) -> None:
    rate = RateTerms(5, HOUR)
    define(connection, *(() if of_all else (rate,)), total_rates=(rate,) if of_all else ())
    first, second, third = defer(connection, 2, 2, 2)
    assert start() == [first, second]
    assert start() == []
    assert query(connection, "SELECT sum(weight)::int FROM procrastinate_starts") == [(4,)]
    query(connection, "UPDATE procrastinate_starts SET at = at - interval '1 hour' WHERE id = 1")
    query(connection, "UPDATE procrastinate_windows SET opens_at = now()")
    assert start() == [third]


@pytest.mark.parametrize("of_all", [False, True], ids=["of a key", "of all keys"])
def test_a_heavy_job_starts_when_enough_starts_have_left_the_window(
    connection: sa.Connection, start: Any, of_all: bool
) -> None:
    rate = RateTerms(5, HOUR)
    define(connection, *(() if of_all else (rate,)), total_rates=(rate,) if of_all else ())
    defer(connection, 1, 1, 1, 1, 1)
    assert len(start()) == 5
    query(connection, "UPDATE procrastinate_starts SET at = at - id * interval '1 minute'")
    [heavy, _] = defer(connection, 3, 1)
    assert start() == []
    [(opens_at,)] = query(connection, "SELECT opens_at FROM procrastinate_windows")
    third_oldest = query(connection, "SELECT at FROM procrastinate_starts ORDER BY at OFFSET 2 LIMIT 1")
    assert opens_at == third_oldest[0][0] + datetime.timedelta(hours=1)
    assert core.show_limit(connection, "l", "k").next_start == opens_at
    query(connection, "UPDATE procrastinate_starts SET at = at - interval '57 minutes' - interval '1 second'")
    query(connection, "UPDATE procrastinate_windows SET opens_at = now()")
    assert start() == [heavy]


def test_heavy_jobs_of_a_fair_limit_may_weigh_more_than_the_workers_have_slots(
    connection: sa.Connection, worker_id: int, start: Any
) -> None:
    define(connection, fair=True)
    query(connection, "UPDATE procrastinate_workers SET concurrency = 2")
    [big, *_] = defer(connection, 50, 50, 50, key="a")
    [small] = defer(connection, 1, key="b")
    assert start() == [big, small]
    finish(connection, worker_id, big)
    defer(connection, *[1] * 3, key="b")
    assert len(start()) == 1


def test_an_admission_in_rounds_gives_what_the_weights_leave(connection: sa.Connection, start: Any) -> None:
    define(connection, concurrency=10)
    ids = defer(connection, 3, 1, 1, 4, 2, 1)
    assert start() == ids[:4]


def test_an_admission_ends_if_the_next_jobs_of_two_keys_do_not_fit(connection: sa.Connection, start: Any) -> None:
    define(connection, concurrency=3)
    first = defer(connection, 1, 3, key="a")
    assert start() == first[:1]
    second = defer(connection, 1, 3, key="b")
    query(connection, "INSERT INTO procrastinate_openings (limit_name, limit_key) VALUES ('l', 'a')")
    assert start() == second[:1]


def test_a_sweep_opens_no_key_whose_next_job_does_not_fit(connection: sa.Connection, start: Any) -> None:
    define(connection, concurrency=3)
    first, _ = defer(connection, 2, 2)
    too_heavy, light = defer(connection, 4, 1, key="b")
    query(connection, "UPDATE procrastinate_jobs SET priority = -1 WHERE id = :id", id=light)
    assert start() == [first, light]
    defer(connection, 4, key="c")
    admit(connection)
    assert core.sweep_lines(connection).opened == 0
    core.finish_job_by_id(connection, first, status=Status.CANCELLED, delete=True)
    query(connection, "DELETE FROM procrastinate_openings")
    query(connection, "UPDATE procrastinate_jobs SET readiness = 3 WHERE status = 'todo'")
    query(connection, "DELETE FROM procrastinate_openings")
    assert core.sweep_lines(connection).opened == 1
    assert too_heavy not in start()


def test_a_job_that_ends_gives_no_slots_to_a_job_that_needs_more(connection: sa.Connection, start: Any) -> None:
    """An admission gives it all slots at once, and so does the end that frees the last one."""
    define(connection, concurrency=3)
    first, second, third = defer(connection, 1, 1, 1)
    assert len(start()) == 3
    heavy, light = defer(connection, 2, 1)
    admit(connection)
    core.finish_job_by_id(connection, first, status=Status.SUCCEEDED, delete=False)
    assert with_slot(connection) == []
    core.finish_job_by_id(connection, second, status=Status.SUCCEEDED, delete=False)
    assert admit(connection).admitted == 1
    assert with_slot(connection) == [heavy]
    core.finish_job_by_id(connection, third, status=Status.SUCCEEDED, delete=False)
    assert with_slot(connection) == [heavy, light]


def test_slots_that_a_heavy_job_waited_for_go_to_the_jobs_behind_it(
    connection: sa.Connection, worker_id: int, start: Any
) -> None:
    """One slot is free while the job at the head of the line waits for two. The end of another job gives it two."""
    define(connection, concurrency=3)
    heavy, light = defer(connection, 2, 1)
    assert start() == [heavy, light]
    next_heavy, next_light = defer(connection, 2, 1)
    finish(connection, worker_id, light)
    assert start() == []
    finish(connection, worker_id, heavy)
    assert start() == [next_heavy, next_light]


def test_a_heavy_job_that_an_open_transaction_ends_is_not_overtaken(connection: sa.Connection, start: Any) -> None:
    define(connection, concurrency=2)
    first, second = defer(connection, 1, 1)
    assert len(start()) == 2
    heavy, _ = defer(connection, 2, 1)
    admit(connection)
    with connection.engine.connect() as users:
        core.finish_job_by_id(users, first, status=Status.SUCCEEDED, delete=False)
        core.finish_job_by_id(connection, second, status=Status.SUCCEEDED, delete=False)
        assert with_slot(connection) == []
        users.commit()
    admit(connection)
    assert with_slot(connection) == [heavy]


def test_a_rolled_back_end_of_a_heavy_job_gives_nothing_away(connection: sa.Connection, start: Any) -> None:
    define(connection, concurrency=2)
    [heavy] = defer(connection, 2)
    assert start() == [heavy]
    light = defer(connection, 1, 1)
    admit(connection)
    with connection.engine.connect() as users:
        core.finish_job_by_id(users, heavy, status=Status.SUCCEEDED, delete=False)
        assert with_slot(users) == light
        users.rollback()
    admit(connection)
    assert with_slot(connection) == []


def test_a_rescued_heavy_job_hands_its_slots_over(connection: sa.Connection, worker_id: int, start: Any) -> None:
    define(connection, concurrency=2)
    [heavy] = defer(connection, 2)
    assert start() == [heavy]
    light = defer(connection, 1, 1)
    admit(connection)
    core.unregister_worker(connection, worker_id)
    with connection.engine.begin() as other:
        assert [job.id for job in core.rescue_jobs(other, max_rescues=0)] == [heavy]
    assert with_slot(connection) == light


def test_the_sweep_lets_those_go_on_that_a_cancelled_heavy_job_held_up(connection: sa.Connection, start: Any) -> None:
    """No slot becomes free when a job leaves the line."""
    define(connection, concurrency=3)
    [heavy] = defer(connection, 2)
    assert start() == [heavy]
    heavier, light = defer(connection, 3, 1)
    admit(connection)
    assert core.cancel_job(connection, heavier)
    admit(connection)
    assert with_slot(connection) == []
    assert core.sweep_lines(connection).opened == 1
    admit(connection)
    assert with_slot(connection) == [light]


def test_the_release_before_starts_no_more_than_a_limit_with_heavy_jobs_allows(
    connection: sa.Connection, start: Any
) -> None:
    """It counts a heavy job as one. A trigger takes back what it gives away, and no opening makes it try again."""
    define(connection, concurrency=3)
    [heavy] = defer(connection, 3)
    assert start() == [heavy]
    light = defer(connection, 1, 1)
    admit(connection)
    admit_like_the_release_before(connection, *light)
    assert with_slot(connection) == []
    assert query(connection, "SELECT count(*) FROM procrastinate_openings") == [(0,)]
    core.finish_job_by_id(connection, heavy, status=Status.SUCCEEDED, delete=False)
    assert with_slot(connection) == light


def test_the_release_before_starts_no_more_than_a_rate_with_heavy_jobs_allows(
    connection: sa.Connection, start: Any
) -> None:
    define(connection, RateTerms(3, HOUR))
    [heavy] = defer(connection, 3)
    assert start() == [heavy]
    core.finish_job_by_id(connection, heavy, status=Status.SUCCEEDED, delete=False)
    light = defer(connection, 1, 1)
    admit_like_the_release_before(connection, *light)
    assert with_slot(connection) == []


def test_the_release_before_starts_jobs_of_limits_without_heavy_ones(connection: sa.Connection) -> None:
    define(connection, concurrency=3)
    light = core.defer_jobs(connection, [new_job(limit_name="l", limit_key="k")] * 2)
    admit_like_the_release_before(connection, *light)
    assert with_slot(connection) == light


def test_jobs_of_the_weight_one_leave_the_new_columns_alone(connection: sa.Connection) -> None:
    with connection.begin_nested() if connection.in_transaction() else connection.begin() as transaction:
        connection.exec_driver_sql("ALTER TABLE procrastinate_jobs RENAME COLUMN limit_weight TO not_there")
        core.defer_job(connection, new_job(limit_name="l", limit_key="k"))
        core.defer_jobs(connection, [new_job(limit_name="l", limit_key="k")] * 2)
        transaction.rollback()


def test_a_copy_of_a_heavy_job_is_as_heavy(connection: sa.Connection, start: Any) -> None:
    define(connection, concurrency=3)
    [heavy] = defer(connection, 2)
    assert start() == [heavy]
    core.finish_job_by_id(connection, heavy, status=Status.SUCCEEDED, delete=False)
    copy = run_job_again(connection, heavy)
    assert query(connection, "SELECT limit_weight FROM procrastinate_jobs WHERE id = :id", id=copy) == [(2,)]


@pytest.mark.parametrize("stored", [0, -2])
def test_triggers_count_a_stored_weight_below_one_as_one(
    connection: sa.Connection, worker_id: int, start: Any, stored: int
) -> None:
    """Only plain SQL stores such a weight, and admissions count it as one."""
    define(connection, concurrency=2)
    ids = defer(connection, *[1] * 6)
    query(connection, "UPDATE procrastinate_jobs SET limit_weight = :weight", weight=stored)
    assert start() == ids[:2]
    finish(connection, worker_id, ids[0])
    assert with_slot(connection) == ids[2:3]
    query(connection, "DELETE FROM procrastinate_jobs WHERE id = :id", id=ids[1])
    assert with_slot(connection) == ids[2:4]
    core.finish_job_by_id(connection, ids[2], status=Status.CANCELLED, delete=False)
    assert with_slot(connection) == ids[3:5]
    assert admit(connection).admitted == 0


def test_a_job_in_line_counts_as_one_slot_for_a_heavy_job_that_ends(
    connection: sa.Connection, worker_id: int, start: Any
) -> None:
    define(connection, concurrency=2)
    [heavy] = defer(connection, 2)
    assert start() == [heavy]
    ids = defer(connection, *[1] * 4)
    query(connection, "UPDATE procrastinate_jobs SET limit_weight = 0 WHERE id <> :id", id=heavy)
    finish(connection, worker_id, heavy)
    assert with_slot(connection) == ids[:2]
