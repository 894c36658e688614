"""No job of a queue that no worker serves has a slot of a limit, while jobs of other queues wait."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, LimitDefinition, RateTerms, Readiness, Status, WorkerIdentity, WorkerTerms
from tests.conformance.steps import query
from tests.database import new_job

LIMITS = {
    "concurrency": LimitDefinition(name="l", concurrency=1),
    "total": LimitDefinition(name="l", total=1),
    "rate": LimitDefinition(name="l", rates=(RateTerms(1, 3600.0),)),
    "fair": LimitDefinition(name="l", fair=True),
}


def register(connection: sa.Connection, *queues: str) -> int:
    identity = WorkerIdentity(name="w", hostname="h", pid=1, version="1", queues=queues, concurrency=1, listens=True)
    return core.register_worker(connection, WorkerTerms(heartbeat_interval=10.0, stalled_timeout=30.0), identity)


def defer(connection: sa.Connection, queue: str, number: int = 1, **job: Any) -> list[int]:
    jobs = [new_job(limit_name="l", limit_key="k", queue_name=queue, **job) for _ in range(number)]
    return core.defer_jobs(connection, jobs)


def admit(connection: sa.Connection) -> core.Admission:
    with connection.engine.begin() as other:
        return core.admit_jobs(other)


def readiness(connection: sa.Connection, *ids: int) -> list[int]:
    rows = dict(query(connection, "SELECT id, readiness FROM procrastinate_jobs"))
    return [rows[job_id] for job_id in ids]


@pytest.mark.parametrize("kind", LIMITS)
def test_a_job_of_a_queue_without_a_worker_gets_no_slot(connection: sa.Connection, kind: str) -> None:
    core.define_limits(connection, [LIMITS[kind]])
    register(connection, "a")
    [unserved], [served] = defer(connection, "b"), defer(connection, "a")
    assert admit(connection).admitted == 1
    assert readiness(connection, unserved, served) == [Readiness.PARKED, Readiness.PROMOTED]


@pytest.mark.parametrize("kind", LIMITS)
def test_a_slot_of_a_queue_whose_workers_are_gone_goes_to_another_queue(connection: sa.Connection, kind: str) -> None:
    core.define_limits(connection, [LIMITS[kind]])
    register(connection, "a")
    gone = register(connection, "b")
    [unserved] = defer(connection, "b")
    admit(connection)
    [served] = defer(connection, "a")
    if kind == "fair":  # with two workers it has two slots
        query(connection, "UPDATE procrastinate_workers SET concurrency = 0 WHERE id = :id", id=gone)
    admit(connection)
    assert core.take_unserved_slots(connection) == []
    assert readiness(connection, unserved, served) == [Readiness.PROMOTED, Readiness.IN_LINE]
    core.unregister_worker(connection, gone)
    assert core.take_unserved_slots(connection) == [unserved]
    assert admit(connection).admitted == 1
    assert readiness(connection, unserved, served) == [Readiness.PARKED, Readiness.PROMOTED]


def test_a_job_that_ends_hands_no_slot_to_a_job_of_a_queue_without_a_worker(connection: sa.Connection) -> None:
    core.define_limits(connection, [LIMITS["concurrency"]])
    worker_id = register(connection, "a")
    [running] = defer(connection, "a")
    admit(connection)
    assert [job.id for job in core.fetch_jobs(connection, worker_id=worker_id, limit=1, queues=["a"])] == [running]
    [unserved], [served] = defer(connection, "b"), defer(connection, "a")
    admit(connection)
    core.finish_jobs(connection, [FinishedJob(id=running, attempts=0, status=Status.SUCCEEDED)], worker_id=worker_id)
    assert readiness(connection, unserved, served) == [Readiness.IN_LINE, Readiness.IN_LINE]
    assert admit(connection).admitted == 1
    assert readiness(connection, unserved, served) == [Readiness.PARKED, Readiness.PROMOTED]


def test_a_job_that_ends_hands_its_slot_on_within_the_queues_of_workers(connection: sa.Connection) -> None:
    core.define_limits(connection, [LIMITS["concurrency"]])
    worker_id = register(connection, "a")
    [running] = defer(connection, "a")
    admit(connection)
    core.fetch_jobs(connection, worker_id=worker_id, limit=1, queues=["a"])
    [served] = defer(connection, "a")
    core.finish_jobs(connection, [FinishedJob(id=running, attempts=0, status=Status.SUCCEEDED)], worker_id=worker_id)
    assert readiness(connection, served) == [Readiness.PROMOTED]


def test_many_jobs_of_a_queue_without_a_worker_are_passed_in_few_admissions(connection: sa.Connection) -> None:
    core.define_limits(connection, [LIMITS["concurrency"]])
    register(connection, "a")
    unserved = defer(connection, "b", 1200)
    [served] = defer(connection, "a")
    assert [admit(connection).admitted for _ in range(3)] == [0, 0, 1]
    assert readiness(connection, served) == [Readiness.PROMOTED]
    assert set(readiness(connection, *unserved)) == {Readiness.PARKED}


def test_a_fair_limit_counts_the_workers_of_the_queues_behind(connection: sa.Connection) -> None:
    core.define_limits(connection, [LIMITS["fair"]])
    register(connection, "a")
    query(connection, "UPDATE procrastinate_workers SET concurrency = 3")
    defer(connection, "b")
    served = defer(connection, "a", 3)
    while admit(connection).again:
        pass
    assert readiness(connection, *served) == [Readiness.PROMOTED] * 3


def test_a_heavy_job_of_a_queue_without_a_worker_holds_up_no_other(connection: sa.Connection) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=3)])
    worker_id = register(connection, "a")
    defer(connection, "a")
    admit(connection)
    core.fetch_jobs(connection, worker_id=worker_id, limit=1, queues=["a"])
    defer(connection, "b", limit_weight=3)
    [served] = defer(connection, "a")
    assert admit(connection).admitted == 1
    assert readiness(connection, served) == [Readiness.PROMOTED]


@pytest.mark.parametrize("lock", [None, "x"], ids=["no lock", "lock"])
def test_a_job_goes_on_when_a_worker_serves_its_queue(connection: sa.Connection, lock: str | None) -> None:
    core.define_limits(connection, [LIMITS["concurrency"]])
    register(connection, "a")
    [waiting] = defer(connection, "b", lock=lock)
    admit(connection)

    def unpark() -> list[int]:
        core.sweep_parked_jobs(connection)
        core.unpark_resumed_jobs(connection)
        core.promote_jobs(connection)
        admit(connection)
        return readiness(connection, waiting)

    assert not core.find_unswept(connection).resumed
    assert unpark() == [Readiness.PARKED]
    register(connection, "b")
    assert core.find_unswept(connection).resumed is (lock is None)
    assert unpark() == [Readiness.PROMOTED]


@pytest.mark.parametrize("is_paused", [False, True], ids=["no worker", "paused"])
def test_jobs_with_a_lock_are_not_looked_at_again_and_again(connection: sa.Connection, is_paused: bool) -> None:
    core.define_limits(connection, [LIMITS["concurrency"]])
    worker_id = register(connection, *(() if is_paused else ("a",)))
    paused = ["b"] if is_paused else []
    if is_paused:
        core.pause_queue(connection, "b")

    def look() -> bool:
        promotion = core.promote_jobs(connection, paused=paused)
        with connection.engine.begin() as other:
            return core.admit_jobs(other, paused=paused).again or promotion.again

    holder = core.defer_job(connection, new_job(queue_name="a", lock="x"))
    assert holder is not None
    core.promote_jobs(connection)
    assert [job.id for job in core.fetch_jobs(connection, worker_id=worker_id, limit=1, queues=["a"])] == [holder]
    waiting = defer(connection, "b", 2, lock="x")
    while look():
        pass
    assert readiness(connection, *waiting) == [Readiness.PARKED] * 2
    core.finish_jobs(connection, [FinishedJob(id=holder, attempts=0, status=Status.SUCCEEDED)], worker_id=worker_id)
    for _ in range(5):
        look()
    assert not look()
    assert query(connection, "SELECT * FROM procrastinate_openings") == []
    assert readiness(connection, *waiting) == [Readiness.PARKED] * 2


@pytest.mark.parametrize("others", [(), ("b", "c")], ids=["all queues", "that queue"])
def test_a_job_keeps_its_slot_while_a_worker_serves_its_queue(
    connection: sa.Connection, others: tuple[str, ...]
) -> None:
    core.define_limits(connection, [LIMITS["concurrency"]])
    register(connection, "a")
    register(connection, *others)
    [job_id] = defer(connection, "b")
    assert admit(connection).admitted == 1
    assert core.take_unserved_slots(connection) == []
    assert readiness(connection, job_id) == [Readiness.PROMOTED]


def test_a_worker_that_is_stopping_serves_no_queue(connection: sa.Connection) -> None:
    core.define_limits(connection, [LIMITS["concurrency"]])
    register(connection, "a")
    stopping = register(connection, "b")
    [unserved] = defer(connection, "b")
    admit(connection)
    query(connection, "UPDATE procrastinate_workers SET state = 'draining' WHERE id = :id", id=stopping)
    assert core.take_unserved_slots(connection) == [unserved]


def test_jobs_keep_their_slots_if_there_is_no_worker(connection: sa.Connection) -> None:
    """They are the next to run, whatever the queues of the next worker."""
    core.define_limits(connection, [LIMITS["concurrency"]])
    worker_id = register(connection, "b")
    defer(connection, "b")
    assert admit(connection).admitted == 1
    core.unregister_worker(connection, worker_id)
    assert core.take_unserved_slots(connection) == []


def test_a_job_without_a_limit_is_ready_whether_a_worker_serves_its_queue_or_not(connection: sa.Connection) -> None:
    register(connection, "a")
    core.defer_job(connection, new_job(queue_name="b", lock="x"))
    core.promote_jobs(connection)
    assert core.take_unserved_slots(connection) == []
    assert query(connection, "SELECT readiness FROM procrastinate_jobs") == [(Readiness.PROMOTED,)]


def test_a_role_that_may_not_read_the_workers_hands_slots_on(connection: sa.Connection) -> None:
    core.define_limits(connection, [LIMITS["concurrency"]])
    register(connection, "a")
    [first, second] = defer(connection, "a", 2)
    admit(connection)
    role = f"enders_{query(connection, 'SELECT current_database()')[0][0]}"
    query(connection, f'CREATE ROLE "{role}"')
    try:
        query(connection, f'GRANT SELECT, UPDATE ON procrastinate_jobs TO "{role}"')
        for table in ("limits", "hold_offs", "paused_queues"):
            query(connection, f'GRANT SELECT ON procrastinate_{table} TO "{role}"')
        query(connection, f'GRANT SELECT ON procrastinate_openings TO "{role}"')
        for table in ("events", "openings"):
            query(connection, f'GRANT INSERT ON procrastinate_{table} TO "{role}"')
        query(connection, f'SET ROLE "{role}"')
        query(connection, "UPDATE procrastinate_jobs SET status = 'cancelled' WHERE id = :id", id=first)
        query(connection, "RESET ROLE")
        assert readiness(connection, second) == [Readiness.PROMOTED]
    finally:
        query(connection, "RESET ROLE")
        query(connection, f'DROP OWNED BY "{role}"')
        query(connection, f'DROP ROLE "{role}"')
