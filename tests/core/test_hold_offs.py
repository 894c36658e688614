"""Hold-offs: a key of a limit gives no slots until a time, by the clock of the server."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, LimitDefinition, RateTerms, Status
from tests.conformance.steps import query
from tests.database import new_job

HOUR = 3600.0


def define(connection: sa.Connection, **numbers: Any) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", **numbers)])


def defer(connection: sa.Connection, number: int = 1, *, key: str = "k", **job: Any) -> list[int]:
    return core.defer_jobs(connection, [new_job(limit_name="l", limit_key=key, **job) for _ in range(number)])


def hold_off(connection: sa.Connection, seconds: float = HOUR, *, key: str = "k") -> None:
    with connection.engine.begin() as other:
        core.hold_off(other, "l", key, seconds)


def admit(connection: sa.Connection) -> core.Admission:
    with connection.engine.begin() as other:
        return core.admit_jobs(other)


def end_hold_offs(connection: sa.Connection) -> None:
    query(connection, "UPDATE procrastinate_hold_offs SET until = now()")
    query(connection, "UPDATE procrastinate_windows SET opens_at = now()")


class Worker:
    """A worker that claims jobs."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self.id = core.register_worker(connection)

    def start(self) -> list[int]:
        """Give slots, and claim all jobs that have one."""
        admit(self._connection)
        return self.claim()

    def claim(self, limit: int = 100) -> list[int]:
        return [job.id for job in core.fetch_jobs(self._connection, worker_id=self.id, limit=limit)]

    def end(self, *ids: int) -> None:
        finished = [FinishedJob(id=job_id, attempts=0, status=Status.SUCCEEDED) for job_id in ids]
        core.finish_jobs(self._connection, finished, worker_id=self.id)


@pytest.fixture
def worker(connection: sa.Connection) -> Worker:
    return Worker(connection)


NUMBERS = [
    {"concurrency": 9},
    {"total": 9},
    {"rates": (RateTerms(9, HOUR),)},
    {"total_rates": (RateTerms(9, HOUR),)},
]


@pytest.mark.parametrize("numbers", NUMBERS, ids=lambda numbers: next(iter(numbers)))
def test_a_key_that_is_held_off_starts_no_job_and_other_keys_do(
    connection: sa.Connection, worker: Worker, numbers: dict[str, Any]
) -> None:
    define(connection, **numbers)
    hold_off(connection)
    ids = defer(connection, 2)
    other = defer(connection, key="another key")
    assert worker.start() == other
    end_hold_offs(connection)
    assert worker.start() == ids


def test_a_fair_limit_passes_over_a_key_that_is_held_off(connection: sa.Connection, worker: Worker) -> None:
    define(connection, fair=True)
    query(connection, "UPDATE procrastinate_workers SET concurrency = 4")
    hold_off(connection)
    defer(connection, 2)
    assert worker.start() == [] != (other := defer(connection, key="z"))
    assert worker.start() == other


def test_a_job_that_ends_hands_its_slot_to_no_job_of_a_key_that_is_held_off(
    connection: sa.Connection, worker: Worker
) -> None:
    define(connection, concurrency=1)
    first, second = defer(connection, 2)
    assert worker.start() == [first]
    hold_off(connection)
    worker.end(first)
    assert worker.start() == []
    end_hold_offs(connection)
    assert worker.start() == [second]


def test_a_hold_off_that_is_over_lets_a_job_hand_over_its_slot_again(connection: sa.Connection, worker: Worker) -> None:
    define(connection, concurrency=1)
    first, second = defer(connection, 2)
    assert worker.start() == [first]
    hold_off(connection)
    end_hold_offs(connection)
    worker.end(first)
    assert worker.claim() == [second]


def test_a_job_with_a_slot_that_no_worker_has_claimed_gets_back_in_line(
    connection: sa.Connection, worker: Worker
) -> None:
    define(connection, concurrency=9)
    ids = defer(connection, 3)
    other = defer(connection, key="another key")
    admit(connection)
    [claimed] = worker.claim(1)
    hold_off(connection)
    assert worker.start() == other
    [shown] = [core.show_limit(connection, "l", "k")]
    assert (shown.running, shown.held, shown.in_line) == (1, 1, 2)
    end_hold_offs(connection)
    assert sorted([claimed, *worker.start()]) == ids


def test_a_job_that_gets_back_in_line_frees_its_lock(connection: sa.Connection, worker: Worker) -> None:
    define(connection, concurrency=9)
    defer(connection, lock="shared")
    [other] = core.defer_jobs(connection, [new_job(lock="shared")])
    admit(connection)
    hold_off(connection)
    admit(connection)
    core.promote_jobs(connection)
    assert worker.claim() == [other]


def test_a_job_that_a_worker_gives_back_during_a_hold_off_does_not_start_again(
    connection: sa.Connection, worker: Worker
) -> None:
    define(connection, concurrency=1)
    [job_id] = defer(connection)
    assert worker.start() == [job_id]
    hold_off(connection)
    core.release_jobs(connection, [core.FetchedJob(id=job_id, attempts=0)], worker_id=worker.id)
    assert worker.start() == []


def test_a_shorter_hold_off_does_not_shorten_a_longer_one(connection: sa.Connection) -> None:
    define(connection, concurrency=1)
    hold_off(connection, HOUR)
    before = core.show_limit(connection, "l", "k").next_start
    hold_off(connection, 1.0)
    assert core.show_limit(connection, "l", "k").next_start == before
    hold_off(connection, 2 * HOUR)
    after = core.show_limit(connection, "l", "k").next_start
    assert before is not None
    assert after is not None
    assert after > before


def test_the_next_start_is_the_later_one_of_rate_and_hold_off(connection: sa.Connection, worker: Worker) -> None:
    define(connection, rates=(RateTerms(1, HOUR),))
    defer(connection)
    worker.start()
    by_rate = core.show_limit(connection, "l", "k").next_start
    hold_off(connection, 1.0)
    assert core.show_limit(connection, "l", "k").next_start == by_rate
    hold_off(connection, 2 * HOUR)
    held_off = core.show_limit(connection, "l", "k").next_start
    assert by_rate is not None
    assert held_off is not None
    assert held_off > by_rate


@pytest.mark.parametrize("total_rates", [(), (RateTerms(1, 60.0),)], ids=["no rate", "a rate used up"])
def test_an_admission_looks_at_the_key_when_the_hold_off_ends(
    connection: sa.Connection, worker: Worker, total_rates: tuple[RateTerms, ...]
) -> None:
    """The window of a rate over all keys ends earlier, and must not move it."""
    define(connection, concurrency=9, total_rates=total_rates)
    if total_rates:
        defer(connection, key="a")
        worker.start()
    defer(connection, 2)
    hold_off(connection)
    admit(connection)
    defer(connection)
    admit(connection)
    opens_at = "SELECT opens_at = until FROM procrastinate_windows JOIN procrastinate_hold_offs USING (limit_key)"
    assert query(connection, opens_at) == [(True,)]


def test_an_admission_says_when_the_hold_off_ends(connection: sa.Connection) -> None:
    define(connection, concurrency=9)
    hold_off(connection)
    defer(connection)
    next_start_in = admit(connection).next_start_in
    assert next_start_in is not None
    assert HOUR - 60 < next_start_in <= HOUR


def test_hold_offs_that_are_over_are_deleted_by_the_next_one(connection: sa.Connection) -> None:
    hold_off(connection, key="a")
    end_hold_offs(connection)
    hold_off(connection, key="b")
    assert query(connection, "SELECT limit_key FROM procrastinate_hold_offs") == [("b",)]


def test_a_hold_off_takes_back_the_jobs_of_an_admission_that_has_not_seen_it(
    connection: sa.Connection, engine: sa.Engine, worker: Worker
) -> None:
    """The hold-off waits for the admission, which commits while it waits."""
    define(connection, concurrency=9)
    defer(connection)
    with engine.connect() as admitting, engine.connect() as other:
        admitting.begin()
        assert core.admit_jobs(admitting).admitted == 1

        @sa.event.listens_for(other, "before_cursor_execute")
        def commit(_1: Any, _2: Any, statement: str, *_3: Any) -> None:
            if "INSERT" in statement and admitting.in_transaction():
                pytest.fail("The hold-off was stored while the admission was still open")
            if "pg_advisory_xact_lock" in statement:
                admitting.commit()

        with other.begin():
            core.hold_off(other, "l", "k", HOUR)
    assert worker.claim() == []


def test_a_session_that_keeps_the_lock_of_admissions_stops_no_hold_off(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    define(connection, concurrency=9)
    with engine.begin() as other:
        assert core.admit_jobs(other).had_turn
        hold_off(connection)
    assert core.show_limit(connection, "l", "k").next_start is not None


def test_a_hold_off_outlives_a_truncate_of_the_jobs(connection: sa.Connection) -> None:
    define(connection, concurrency=2)
    hold_off(connection)
    query(connection, "TRUNCATE procrastinate_jobs")
    defer(connection, 1)
    assert admit(connection).admitted == 0
    assert core.show_limit(connection, "l", "k").next_start is not None


def test_a_job_that_a_trigger_of_the_user_keeps_as_it_is_does_not_stop_the_hold_off(connection: sa.Connection) -> None:
    define(connection, concurrency=2)
    defer(connection, 2)
    admit(connection)
    query(
        connection,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no change'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (new.readiness = 3) "
        "EXECUTE FUNCTION refuse()",
    )
    hold_off(connection)
    assert query(connection, "SELECT count(*) FROM procrastinate_hold_offs") == [(1,)]


def test_a_hold_off_passes_over_rows_that_another_session_has_locked(connection: sa.Connection) -> None:
    """It deletes those of its limit that are over. An open transaction on one key must not hold up the others."""
    define(connection, concurrency=1)
    hold_off(connection, key="locked")
    end_hold_offs(connection)
    with connection.engine.connect() as user, user.begin():
        user.exec_driver_sql("SELECT FROM procrastinate_hold_offs FOR UPDATE")
        with connection.engine.begin() as other:
            other.exec_driver_sql("SET LOCAL statement_timeout = '5s'")
            core.hold_off(other, "l", "free", HOUR)
    assert query(connection, "SELECT limit_key FROM procrastinate_hold_offs ORDER BY 1") == [("free",), ("locked",)]
