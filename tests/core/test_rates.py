"""Rates of limits: how many jobs start in any window, by the clock of the server."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import Admission, FetchedJob, FinishedJob, LimitDefinition, RateTerms, Readiness, Status
from tests.conformance.steps import query
from tests.core.plans import recorded
from tests.database import new_job

HOUR = 3600.0
BACK = "UPDATE procrastinate_starts SET at = at - make_interval(secs => :seconds)"


def define(connection: sa.Connection, *rates: RateTerms, **numbers: Any) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", **({"rates": rates} | numbers))])


def defer(connection: sa.Connection, number: int = 1, *, key: str = "k", **job: Any) -> list[int]:
    return core.defer_jobs(connection, [new_job(limit_name="l", limit_key=key, **job) for _ in range(number)])


def admit(connection: sa.Connection, **options: Any) -> Admission:
    with connection.engine.begin() as other:
        return core.admit_jobs(other, **options)


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


def test_no_more_jobs_start_in_a_window_than_the_rate_says(connection: sa.Connection, start: Any) -> None:
    define(connection, RateTerms(2, HOUR))
    ids = defer(connection, 5)
    other = defer(connection, 1, key="another key")
    assert start() == [*ids[:2], *other]
    assert start() == []
    query(connection, BACK, seconds=HOUR)
    query(connection, "UPDATE procrastinate_windows SET opens_at = now()")
    assert start() == ids[2:4]


def test_a_job_that_has_not_started_counts_as_one_that_may_start_at_any_time(
    connection: sa.Connection, worker_id: int
) -> None:
    define(connection, RateTerms(2, 0.001))
    defer(connection, 4)
    assert admit(connection).admitted == 2
    query(connection, "SELECT pg_sleep(0.01)")
    assert admit(connection).admitted == 0
    assert len(core.fetch_jobs(connection, worker_id=worker_id, limit=1)) == 1
    query(connection, "SELECT pg_sleep(0.01)")
    assert admit(connection).admitted == 1


def test_an_admission_counts_a_job_whose_claim_is_not_committed(connection: sa.Connection, worker_id: int) -> None:
    define(connection, RateTerms(2, HOUR))
    defer(connection, 4)
    assert admit(connection).admitted == 2
    with connection.engine.begin() as other:
        assert len(core.fetch_jobs(other, worker_id=worker_id, limit=2)) == 2
        admit(connection)
        assert query(connection, "SELECT count(*) FROM procrastinate_jobs WHERE readiness = 1") == [(2,)]
    query(connection, "UPDATE procrastinate_windows SET opens_at = now()")
    assert admit(connection).admitted == 0


@pytest.mark.parametrize("leave", ["succeeded", "deleted", "retried", "rescued", "released"])
def test_a_start_counts_whatever_becomes_of_its_job(
    connection: sa.Connection, worker_id: int, start: Any, leave: str
) -> None:
    define(connection, RateTerms(1, HOUR))
    [first, _] = defer(connection, 2)
    assert start() == [first]
    if leave == "succeeded":
        core.finish_jobs(connection, [FinishedJob(id=first, attempts=0, status=Status.SUCCEEDED)], worker_id=worker_id)
    elif leave == "deleted":
        query(connection, "DELETE FROM procrastinate_jobs WHERE id = :id", id=first)
    elif leave == "retried":
        with connection.engine.begin() as other:
            core.retry_job_by_id(other, first)
    elif leave == "rescued":
        core.unregister_worker(connection, worker_id)
        with connection.engine.begin() as other:
            core.rescue_jobs(other, max_rescues=5)
        core.register_worker(connection)
    else:
        core.release_jobs(connection, [FetchedJob(id=first, attempts=0)], worker_id=worker_id)
    core.promote_jobs(connection)
    assert start() == []
    assert query(connection, "SELECT count(*) FROM procrastinate_jobs WHERE readiness = 1") == [(0,)]


def test_all_rates_of_a_limit_hold_and_the_concurrency_too(connection: sa.Connection, start: Any) -> None:
    define(connection, RateTerms(5, HOUR), RateTerms(3, 60.0), concurrency=4)
    ids = defer(connection, 9)
    assert start() == ids[:3]
    query(connection, BACK, seconds=60)
    query(connection, "UPDATE procrastinate_windows SET opens_at = now()")
    assert start() == ids[3:4]
    query(connection, "UPDATE procrastinate_jobs SET status = 'succeeded' WHERE status = 'doing'")
    assert start() == ids[4:5]


def test_a_rate_over_all_keys_counts_the_starts_of_each_key(connection: sa.Connection, start: Any) -> None:
    define(connection, total_rates=(RateTerms(3, HOUR),))
    first = defer(connection, 3, key="a")
    second = defer(connection, 3, key="b")
    assert sorted(start()) == [*first[:2], *second[:1]]
    assert start() == []
    assert query(connection, "SELECT count(*) FROM procrastinate_windows") == [(1,)]
    query(connection, BACK, seconds=HOUR)
    query(connection, "UPDATE procrastinate_windows SET opens_at = now()")
    assert len(start()) == 3


def test_a_worker_is_told_when_the_next_job_may_start(connection: sa.Connection, start: Any) -> None:
    define(connection, RateTerms(1, 100.0))
    defer(connection, 2)
    assert admit(connection).next_start_in == pytest.approx(100, abs=20)
    start()
    query(connection, BACK, seconds=40)
    query(connection, "UPDATE procrastinate_windows SET opens_at = now()")
    assert core.promote_jobs(connection).has_openings
    assert admit(connection).next_start_in == pytest.approx(60, abs=20)
    assert core.promote_jobs(connection).next_due_in == pytest.approx(60, abs=20)


def test_a_key_without_jobs_in_line_has_no_window_to_wait_for(connection: sa.Connection, start: Any) -> None:
    define(connection, RateTerms(1, HOUR))
    defer(connection)
    start()
    assert admit(connection).next_start_in is None
    assert core.promote_jobs(connection).next_due_in is None


def test_a_key_shows_its_next_start(connection: sa.Connection, start: Any) -> None:
    define(connection, RateTerms(1, HOUR))
    assert core.show_limit(connection, "l", "k").next_start is None
    defer(connection, 2)
    start()
    next_start = core.show_limit(connection, "l", "k").next_start
    [(at,)] = query(connection, "SELECT at FROM procrastinate_starts")
    assert next_start == at + datetime.timedelta(hours=1)
    [listed] = core.list_limits(connection)
    assert (listed.is_defined, listed.rates) == (True, (RateTerms(1, HOUR),))


def test_a_rate_that_is_set_holds_at_once_until_it_is_reset(connection: sa.Connection, start: Any) -> None:
    define(connection, RateTerms(1, HOUR))
    ids = defer(connection, 6)
    assert start() == ids[:1]
    with connection.engine.begin() as other:
        core.set_limit(other, LimitDefinition(name="l", rates=(RateTerms(3, HOUR),)))
    assert start() == ids[1:3]
    with connection.engine.begin() as other:
        core.reset_limit(other, "l")
    assert start() == []
    assert [(one.rates, one.is_set) for one in core.list_limits(connection)] == [((RateTerms(1, HOUR),), False)]


def test_the_sweep_leaves_a_key_alone_whose_window_is_closed(connection: sa.Connection, start: Any) -> None:
    define(connection, RateTerms(1, HOUR))
    defer(connection, 2)
    start()
    admit(connection)
    assert core.sweep_lines(connection).opened == 0
    query(connection, "DELETE FROM procrastinate_windows")
    assert core.sweep_lines(connection).opened == 1


def test_starts_outlive_a_truncate_of_the_jobs(connection: sa.Connection, start: Any) -> None:
    define(connection, RateTerms(2, HOUR))
    defer(connection, 3)
    assert len(start()) == 2
    query(connection, "TRUNCATE procrastinate_jobs RESTART IDENTITY")
    defer(connection, 3)
    assert start() == []
    query(connection, BACK, seconds=HOUR)
    query(connection, "UPDATE procrastinate_windows SET opens_at = now()")
    assert len(start()) == 2


@pytest.mark.parametrize("of_all", [False, True], ids=["of a key", "of all keys"])
def test_starts_are_kept_for_the_rate_of_the_code_while_that_of_an_operator_holds(
    connection: sa.Connection, start: Any, of_all: bool
) -> None:
    name = "total_rates" if of_all else "rates"
    define(connection, **{name: (RateTerms(2, HOUR),)})
    defer(connection, 5)
    assert len(start()) == 2
    core.set_limit(connection, LimitDefinition(name="l", **{name: (RateTerms(1, 0.001),)}))
    query(connection, "SELECT pg_sleep(0.01)")
    assert len(start()) == 1
    core.reset_limit(connection, "l")
    assert start() == []


def test_starts_that_no_window_reaches_are_deleted(connection: sa.Connection, start: Any) -> None:
    define(connection, RateTerms(1, 60.0), RateTerms(5, HOUR))
    defer(connection, 2)
    start()
    query(connection, BACK, seconds=60)
    query(connection, "UPDATE procrastinate_windows SET opens_at = now()")
    start()
    assert query(connection, "SELECT count(*) FROM procrastinate_starts") == [(2,)]
    query(connection, BACK, seconds=HOUR)
    defer(connection)
    start()
    assert query(connection, "SELECT count(*) FROM procrastinate_starts") == [(1,)]


def test_an_admission_reads_the_numbers_of_a_limit_once(connection: sa.Connection) -> None:
    define(connection, RateTerms(1, HOUR))
    defer(connection, 2)
    with connection.engine.connect() as other, recorded(other) as statements, other.begin():
        assert core.admit_jobs(other).admitted == 1
    assert len([statement for statement, _ in statements if "FROM procrastinate_limits" in statement]) == 1


def test_a_limit_without_a_rate_records_no_starts(connection: sa.Connection, start: Any) -> None:
    define(connection, concurrency=1)
    assert start() == []
    assert len(defer(connection, 2)) == 2
    assert len(start()) == 1
    assert query(connection, "SELECT count(*) FROM procrastinate_starts") == [(0,)]


def test_a_released_job_with_a_lock_waits_in_line_without_it(
    connection: sa.Connection, worker_id: int, start: Any
) -> None:
    define(connection, RateTerms(1, HOUR))
    [first] = defer(connection, 1, lock="x")
    assert start() == [first]
    [other] = core.defer_jobs(connection, [new_job(lock="x")])
    core.promote_jobs(connection)
    core.release_jobs(connection, [FetchedJob(id=first, attempts=0)], worker_id=worker_id)
    rows = query(connection, "SELECT id, readiness FROM procrastinate_jobs ORDER BY id")
    assert rows == [(first, Readiness.IN_LINE), (other, Readiness.PROMOTED)]


def test_a_key_waits_for_its_own_oldest_start_whatever_other_keys_and_rates_there_are(
    connection: sa.Connection, start: Any
) -> None:
    """One statement reads all rates for all keys."""
    define(connection, RateTerms(3, HOUR), RateTerms(100, 24 * HOUR))
    for _ in range(3):
        defer(connection, 1, key="k")
        defer(connection, 1, key="other")
        assert len(start()) == 2
        query(connection, BACK, seconds=60)
    waiting = [*defer(connection, 1, key="k"), *defer(connection, 1, key="other")]
    assert start() == []
    oldest = dict(query(connection, "SELECT limit_key, min(at) FROM procrastinate_starts GROUP BY limit_key"))
    openings = {key: at + datetime.timedelta(seconds=HOUR) for key, at in oldest.items()}
    assert dict(query(connection, "SELECT limit_key, opens_at FROM procrastinate_windows")) == openings
    assert core.show_limit(connection, "l", "k").next_start == openings["k"]
    query(connection, BACK, seconds=HOUR)
    query(connection, "UPDATE procrastinate_windows SET opens_at = now()")
    assert start() == waiting
