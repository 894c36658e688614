"""Fair limits: the keys take turns, whatever the number and the priority of their jobs."""

from __future__ import annotations

import time
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, LimitDefinition, Status, WorkerIdentity, WorkerTerms, lines
from procrastinate.core.turns import read_last_turn
from tests.conformance.steps import query
from tests.database import new_job


class Room:
    """A worker with a number of slots, which runs all jobs that it gets at once."""

    def __init__(self, connection: sa.Connection, slots: int) -> None:
        self._connection = connection
        self._id = core.register_worker(connection)
        query(connection, "UPDATE procrastinate_workers SET concurrency = :slots", slots=slots)

    def claim(self) -> dict[int, str]:
        """Admit and claim jobs, and return their keys by id."""
        with self._connection.engine.begin() as other:
            core.admit_jobs(other)
        ids = [job.id for job in core.fetch_jobs(self._connection, worker_id=self._id, limit=1000)]
        rows = query(self._connection, "SELECT id, limit_key FROM procrastinate_jobs WHERE id = ANY (:ids)", ids=ids)
        return dict(sorted(rows))

    def run(self) -> str:
        """Claim jobs, run them, and return their keys, one after the other."""
        claimed = self.claim()
        finished = [FinishedJob(id=job_id, attempts=0, status=Status.SUCCEEDED) for job_id in claimed]
        core.finish_jobs(self._connection, finished, worker_id=self._id)
        return "".join(claimed.values())


def define(connection: sa.Connection, **numbers: Any) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", fair=True, **numbers)])


def defer(connection: sa.Connection, keys: str, **job: Any) -> list[int]:
    return core.defer_jobs(connection, [new_job(limit_name="l", limit_key=key, **job) for key in keys])


def test_the_keys_take_turns_on_one_slot(connection: sa.Connection) -> None:
    define(connection)
    defer(connection, "aaaaabbc")
    room = Room(connection, 1)
    assert [room.run() for _ in range(8)] == ["a", "b", "c", "a", "b", "a", "a", "a"]


def test_a_key_with_urgent_jobs_waits_for_its_turn(connection: sa.Connection) -> None:
    """The priority decides between the jobs of one key."""
    define(connection)
    first = defer(connection, "aa", priority=10)
    waiting = defer(connection, "b")
    [urgent] = defer(connection, "a", priority=99)
    room = Room(connection, 1)
    assert [next(iter(room.claim())) for _ in range(1)] == [urgent]
    core.finish_job_by_id(connection, urgent, status=Status.SUCCEEDED, delete=False)
    assert list(room.claim()) == waiting
    core.finish_job_by_id(connection, waiting[0], status=Status.SUCCEEDED, delete=False)
    assert list(room.claim()) == first[:1]


def test_a_key_that_arrives_late_gets_its_share_at_once(connection: sa.Connection) -> None:
    define(connection)
    defer(connection, "a" * 300)
    room = Room(connection, 10)
    assert room.run() == "a" * 10
    defer(connection, "b" * 20)
    started = ""
    while started.count("b") < 20:
        started += room.run()
    assert len(started) <= 2 * 2 * 20


def test_steady_arrivals_of_one_key_starve_no_other(connection: sa.Connection) -> None:
    """Each arrival asks for an admission, and must not move the turn."""
    define(connection)
    defer(connection, "abcde")
    room = Room(connection, 1)
    started = ""
    for _ in range(9):
        defer(connection, "z")
        started += room.run()
    assert started[:6] == "abcdez"


def test_more_keys_than_one_look_reads_take_turns(connection: sa.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "KEYS_AT_ONCE", 2)
    define(connection)
    defer(connection, "aabbccddee")
    room = Room(connection, 1)
    assert "".join(room.run() for _ in range(10)) == "abcdeabcde"


@pytest.mark.parametrize("numbers", [{"fair": True}, {"total": 9}], ids=lambda numbers: next(iter(numbers)))
def test_a_key_behind_more_keys_without_room_than_one_look_reads_starts(
    connection: sa.Connection, monkeypatch: pytest.MonkeyPatch, numbers: dict[str, Any]
) -> None:
    monkeypatch.setattr(lines, "KEYS_AT_ONCE", 2)
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=1, **numbers)])
    room = Room(connection, 9)
    first = defer(connection, "ab")
    assert list(room.claim()) == first
    last = defer(connection, "0")
    assert list(room.claim()) == last  # the next turn is that of a
    defer(connection, "ab")
    assert room.claim() == {}
    late = defer(connection, "c")
    assert list(room.claim()) == late


def test_a_fair_limit_admits_no_more_jobs_than_the_workers_can_run(connection: sa.Connection) -> None:
    define(connection)
    defer(connection, "a" * 30)
    assert len(Room(connection, 4).claim()) == 4


def test_a_total_above_the_slots_of_the_workers_lets_none_wait_with_a_slot(connection: sa.Connection) -> None:
    define(connection, total=100)
    defer(connection, "a" * 30)
    assert len(Room(connection, 4).claim()) == 4


def test_the_numbers_of_a_fair_limit_hold(connection: sa.Connection) -> None:
    define(connection, concurrency=2, total=5)
    defer(connection, "a" * 9 + "bcd")
    assert sorted(Room(connection, 50).claim().values()) == list("aabcd")


def test_a_turn_is_kept_for_the_next_admission(connection: sa.Connection) -> None:
    define(connection)
    defer(connection, "ab")
    assert read_last_turn(connection, "l") is None
    Room(connection, 1).run()
    assert read_last_turn(connection, "l") == "a"


def test_an_operator_who_holds_a_fair_limit_open_stops_no_admission(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    define(connection)
    defer(connection, "ab")
    with engine.connect() as operator:
        core.set_limit(operator, LimitDefinition(name="l", concurrency=3))
        connection.exec_driver_sql("SET statement_timeout = '5s'")
        room, end = Room(connection, 1), time.monotonic() + 10
        while not (ran := room.run()) and time.monotonic() < end:
            pass
        assert ran == "a"


def test_the_list_says_that_a_limit_is_fair(connection: sa.Connection) -> None:
    define(connection)
    [one] = core.list_limits(connection)
    assert (one.fair, one.is_defined, core.list_defined_limits(connection)) == (True, True, ["l"])


def test_a_limit_is_no_longer_fair_when_the_code_says_so(connection: sa.Connection) -> None:
    define(connection, concurrency=1)
    assert core.define_limits(connection, [LimitDefinition(name="l", concurrency=1)]) == ["l"]
    assert not core.list_limits(connection)[0].fair


def register(connection: sa.Connection, *queues: str, concurrency: int) -> None:
    identity = WorkerIdentity(
        name="w", hostname="h", pid=1, version="1", queues=queues, concurrency=concurrency, listens=True
    )
    core.register_worker(connection, WorkerTerms(heartbeat_interval=10.0, stalled_timeout=30.0), identity)


def test_a_fair_limit_does_not_give_out_the_slots_of_workers_of_other_queues(connection: sa.Connection) -> None:
    """A late key would wait for all the jobs that are admitted and cannot run."""
    register(connection, "reports", concurrency=3)
    register(connection, "mail", "reports", concurrency=2)
    register(connection, "mail", concurrency=50)
    define(connection)
    defer(connection, "a" * 30, queue_name="reports")
    with connection.engine.begin() as other:
        assert core.admit_jobs(other).admitted == 5
    assert core.sweep_lines(connection).opened == 0
    register(connection, concurrency=4)
    assert core.sweep_lines(connection).opened == 1
    defer(connection, "b", queue_name="mail")
    with connection.engine.begin() as other:
        assert core.admit_jobs(other).admitted == 25 + 1


def test_a_sweep_opens_no_key_of_a_fair_limit_whose_slots_are_taken(connection: sa.Connection) -> None:
    define(connection)
    defer(connection, "a" * 30)
    room = Room(connection, 4)
    assert len(room.claim()) == 4
    assert core.sweep_lines(connection).opened == 0
    query(connection, "UPDATE procrastinate_workers SET concurrency = 5")
    assert core.sweep_lines(connection).opened == 1


def test_a_worker_says_how_many_jobs_it_runs_when_it_registers(connection: sa.Connection) -> None:
    """A fair limit would admit one job at a time until the first heartbeat."""
    identity = WorkerIdentity(name="w", hostname="h", pid=1, version="1", queues=(), concurrency=7, listens=True)
    core.register_worker(connection, WorkerTerms(heartbeat_interval=10.0, stalled_timeout=30.0), identity)
    define(connection)
    defer(connection, "a" * 30)
    with connection.engine.begin() as other:
        assert core.admit_jobs(other).admitted == 7
