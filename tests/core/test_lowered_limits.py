"""A limit that is lowered: jobs that have a slot too many and that no worker has claimed get back in line."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, LimitDefinition, RateTerms, Status
from procrastinate.core import admit as admissions
from tests.conformance.steps import query
from tests.database import new_job

HOUR = 3600.0
Lower = Callable[[sa.Connection, LimitDefinition, LimitDefinition], None]


def rates(count: int) -> tuple[RateTerms, ...]:
    return (RateTerms(count, HOUR),)


HIGH_AND_LOW = {
    "concurrency": (LimitDefinition(name="l", concurrency=5), LimitDefinition(name="l", concurrency=2)),
    "total": (LimitDefinition(name="l", total=5), LimitDefinition(name="l", total=2)),
    "rate": (LimitDefinition(name="l", rates=rates(5)), LimitDefinition(name="l", rates=rates(2))),
    "total_rate": (LimitDefinition(name="l", total_rates=rates(5)), LimitDefinition(name="l", total_rates=rates(2))),
}


def _set(connection: sa.Connection, _: LimitDefinition, low: LimitDefinition) -> None:
    core.set_limit(connection, low)


def _reset(connection: sa.Connection, _: LimitDefinition, low: LimitDefinition) -> None:
    core.reset_limit(connection, low.name)


def _define(connection: sa.Connection, _: LimitDefinition, low: LimitDefinition) -> None:
    core.define_limits(connection, [low])


def begin(connection: sa.Connection, high: LimitDefinition, low: LimitDefinition, lower: Lower) -> None:
    """Let the high numbers hold, so that ``lower`` makes the low ones hold."""
    core.define_limits(connection, [low if lower is _reset else high])
    if lower is _reset:
        core.set_limit(connection, high)


def defer(connection: sa.Connection, number: int = 1, *, key: str = "k", **job: Any) -> list[int]:
    return core.defer_jobs(connection, [new_job(limit_name="l", limit_key=key, **job) for _ in range(number)])


def admit(engine: sa.Engine) -> core.Admission:
    with engine.begin() as other:
        return core.admit_jobs(other)


def fetch(connection: sa.Connection, worker_id: int, limit: int = 100) -> list[int]:
    return [job.id for job in core.fetch_jobs(connection, worker_id=worker_id, limit=limit)]


def end(connection: sa.Connection, worker_id: int, ids: Sequence[int]) -> None:
    finished = [FinishedJob(id=job_id, attempts=0, status=Status.SUCCEEDED) for job_id in ids]
    assert core.finish_jobs(connection, finished, worker_id=worker_id) == set(ids)


def lower_to(engine: sa.Engine, number: int) -> None:
    with engine.begin() as operator:
        core.set_limit(operator, LimitDefinition(name="l", concurrency=number))


def promoted(connection: sa.Connection) -> list[int]:
    rows = query(connection, "SELECT id FROM procrastinate_jobs WHERE readiness = 1 ORDER BY id")
    return [row[0] for row in rows]


@pytest.mark.parametrize("lower", [_set, _reset, _define], ids=lambda lower: lower.__name__.strip("_"))
@pytest.mark.parametrize("kind", HIGH_AND_LOW)
def test_no_job_that_was_admitted_before_starts_above_the_lower_number(
    connection: sa.Connection, engine: sa.Engine, kind: str, lower: Lower
) -> None:
    high, low = HIGH_AND_LOW[kind]
    begin(connection, high, low, lower)
    worker_id = core.register_worker(connection)
    ids = defer(connection, 7)
    assert admit(engine).admitted == 5
    with engine.begin() as operator:
        lower(operator, high, low)
    assert promoted(connection) == ids[:2]
    admit(engine)
    assert fetch(connection, worker_id) == ids[:2]


@pytest.mark.parametrize("kind", HIGH_AND_LOW)
def test_jobs_that_run_count_for_the_lower_number(connection: sa.Connection, engine: sa.Engine, kind: str) -> None:
    high, low = HIGH_AND_LOW[kind]
    core.define_limits(connection, [high])
    worker_id = core.register_worker(connection)
    ids = defer(connection, 7)
    admit(engine)
    assert fetch(connection, worker_id, limit=1) == ids[:1]
    with engine.begin() as operator:
        core.set_limit(operator, low)
    admit(engine)
    assert fetch(connection, worker_id) == ids[1:2]
    end(connection, worker_id, ids[:2])
    admit(engine)
    assert fetch(connection, worker_id) == ([] if "rate" in kind else ids[2:4])


def test_a_limit_that_becomes_fair_keeps_as_many_slots_as_its_workers_have(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=9)])
    core.register_worker(connection)
    query(connection, "UPDATE procrastinate_workers SET concurrency = 3")
    ids = defer(connection, 9)
    assert admit(engine).admitted == 9
    with engine.begin() as other:
        core.define_limits(other, [LimitDefinition(name="l", fair=True)])
    assert promoted(connection) == ids[:3]


def test_all_unclaimed_jobs_get_back_in_line_if_no_number_is_left(connection: sa.Connection, engine: sa.Engine) -> None:
    core.set_limit(connection, LimitDefinition(name="l", concurrency=3))
    worker_id = core.register_worker(connection)
    ids = defer(connection, 3)
    admit(engine)
    assert fetch(connection, worker_id, limit=1) == ids[:1]
    with engine.begin() as operator:
        assert core.reset_limit(operator, "l")
    assert fetch(connection, worker_id) == []


def test_a_job_of_a_higher_priority_keeps_its_slot(connection: sa.Connection, engine: sa.Engine) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=5)])
    low, high = defer(connection, 2), defer(connection, 2, priority=1)
    admit(engine)
    lower_to(engine, 3)
    assert promoted(connection) == [low[0], *high]


def test_each_key_keeps_its_slots(connection: sa.Connection, engine: sa.Engine) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=3)])
    one, other = defer(connection, 3), defer(connection, 1, key="other")
    admit(engine)
    lower_to(engine, 1)
    assert promoted(connection) == [one[0], *other]


def test_no_lighter_job_keeps_its_slot_behind_one_that_gets_back_in_line(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=9)])
    light, heavy, last = (defer(connection, limit_weight=weight) for weight in (2, 3, 1))
    admit(engine)
    lower_to(engine, 4)
    assert promoted(connection) == light != heavy != last


def test_a_job_that_is_too_heavy_now_takes_no_slot_from_those_behind_it(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=9)])
    defer(connection, limit_weight=5)
    light = defer(connection)
    admit(engine)
    lower_to(engine, 4)
    assert promoted(connection) == light


def test_a_higher_number_leaves_all_slots_as_they_are(connection: sa.Connection, engine: sa.Engine) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=2)])
    ids = defer(connection, 4)
    admit(engine)
    lower_to(engine, 3)
    assert promoted(connection) == ids[:2]


def test_a_job_that_gets_back_in_line_frees_its_lock(connection: sa.Connection, engine: sa.Engine) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=2)])
    first, _ = defer(connection), defer(connection, lock="shared")
    [other] = core.defer_jobs(connection, [new_job(lock="shared")])
    admit(engine)
    lower_to(engine, 1)
    admit(engine)
    core.promote_jobs(connection)
    assert promoted(connection) == [*first, other]


def test_a_job_that_a_worker_claims_at_the_moment_counts_as_started(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=4)])
    worker_id = core.register_worker(connection)
    ids = defer(connection, 4)
    admit(engine)
    with engine.begin() as claiming:
        last = [job.id for job in core.fetch_jobs(claiming, worker_id=worker_id, limit=3)]
        assert last == ids[:3]
        lower_to(engine, 3)
    assert fetch(connection, worker_id) == []
    assert core.show_limit(connection, "l", "k").running == 3


@contextmanager
def at_statement(connection: sa.Connection, part: str, act: Callable[[], object]) -> Iterator[None]:
    """Do something before the first statement that contains a text."""
    done: list[str] = []

    def before(_1: Any, _2: Any, statement: str, *_3: Any) -> None:
        if part in statement and not done:
            done.append(statement)
            act()

    sa.event.listen(connection, "before_cursor_execute", before)
    yield
    assert done, f"no statement has {part}"


def test_a_claim_between_two_statements_of_the_lowering_is_counted_once(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=5)])
    worker_id = core.register_worker(connection)
    ids = defer(connection, 5)
    admit(engine)
    with engine.connect() as operator, operator.begin():
        claim = sa.text(
            "UPDATE procrastinate_jobs SET status = 'doing', worker_id = :worker, readiness = 0 WHERE id > :after"
        ).bindparams(worker=worker_id, after=ids[2])
        with at_statement(operator, "GROUP BY", lambda: connection.execute(claim)):
            core.set_limit(operator, LimitDefinition(name="l", concurrency=3))
    assert fetch(connection, worker_id) == ids[:1]


def test_an_admission_that_knows_the_former_number_is_waited_for(connection: sa.Connection, engine: sa.Engine) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=5)])
    worker_id = core.register_worker(connection)
    ids = defer(connection, 5)
    admitting = engine.connect()
    admitting.begin()
    assert core.admit_jobs(admitting).admitted == 5
    ending = threading.Timer(0.1, admitting.commit)
    with engine.begin() as operator, at_statement(operator, "pg_advisory_xact_lock", ending.start):
        core.set_limit(operator, LimitDefinition(name="l", concurrency=2))
    ending.join()
    admitting.close()
    assert fetch(connection, worker_id) == ids[:2]


def test_an_admission_gives_no_slot_of_a_limit_that_another_session_changes(
    connection: sa.Connection, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=2), LimitDefinition(name="m", concurrency=1)])
    worker_id = core.register_worker(connection)
    ids = defer(connection, 3)
    [other] = core.defer_jobs(connection, [new_job(limit_name="m", limit_key="k")])
    monkeypatch.setattr(admissions, "LONGEST_CHANGE", datetime.timedelta(minutes=1))
    with engine.begin() as operator:
        core.set_limit(operator, LimitDefinition(name="l", concurrency=1))
        admission = admit(engine)
        assert (admission.admitted, admission.undecided) == (1, 1)
        assert fetch(connection, worker_id) == [other]
    admit(engine)
    assert fetch(connection, worker_id) == ids[:1]


def test_a_transaction_that_stays_open_keeps_no_job_waiting_and_the_next_admission_takes_the_slots_back(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=4)])
    worker_id = core.register_worker(connection)
    ids = defer(connection, 6)
    with engine.begin() as operator:
        core.set_limit(operator, LimitDefinition(name="l", concurrency=2))
        operator.exec_driver_sql("SELECT pg_sleep(0.6)")
        assert admit(engine).admitted == 4
    admit(engine)
    assert fetch(connection, worker_id) == ids[:2]


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_with_one_snapshot_lowers_a_limit_while_jobs_are_claimed(
    connection: sa.Connection, engine: sa.Engine, isolation: str
) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=5)])
    worker_id = core.register_worker(connection)
    ids = defer(connection, 5)
    admit(engine)
    with engine.connect().execution_options(isolation_level=isolation) as operator, operator.begin():
        operator.exec_driver_sql("SELECT 1 FROM procrastinate_jobs")
        assert fetch(connection, worker_id, limit=4) == ids[:4]
        core.set_limit(operator, LimitDefinition(name="l", concurrency=3))
    assert [(one.concurrency, one.held) for one in core.list_limits(connection)] == [(3, 5)]


def test_a_row_that_the_database_refuses_to_change_does_not_stop_the_lowering(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=2)])
    defer(connection, 2)
    admit(engine)
    query(
        connection,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no change'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (new.readiness = 3) "
        "EXECUTE FUNCTION refuse()",
    )
    lower_to(engine, 1)
    assert [one.concurrency for one in core.list_limits(connection)] == [1]
