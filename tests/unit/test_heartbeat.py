"""The heartbeat: whose silence it may judge, and what it does when it was judged itself."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from procrastinate import core, exceptions
from procrastinate.connector import BaseConnector
from procrastinate.worker import heartbeat as heartbeat_module
from procrastinate.worker.heartbeat import Heartbeat

INTERVAL, PATIENCE = 10.0, 30.0


class Database(BaseConnector):
    """Takes beats, unless it is away or does not know the worker any more."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.knows = True
        self.beaten = threading.Event()

    def run(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        if self.is_away:
            raise exceptions.DatabaseUnavailable
        if operation is core.register_worker:
            self.knows = True
            return 2
        self.beaten.set()
        return self.knows


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in its only item."""
    time = [1000.0]
    monkeypatch.setattr(heartbeat_module.time, "monotonic", lambda: time[0])  # type: ignore[attr-defined]
    return time


@pytest.fixture
def database() -> Database:
    return Database()


def make_heartbeat(database: Database, new_ids: list[int], interval: float = INTERVAL) -> Heartbeat:
    logger = logging.getLogger("procrastinate.worker.test")
    return Heartbeat(database, 1, interval, PATIENCE, logger, on_new_id=new_ids.append)


def test_one_that_beats_steadily_may_judge(database: Database, clock: list[float]) -> None:
    heartbeat = make_heartbeat(database, [])
    beat_for(heartbeat, clock, PATIENCE)
    for _ in range(5):
        clock[0] += INTERVAL
        heartbeat.beat()
        assert heartbeat.may_judge


def test_one_that_has_just_come_may_not(database: Database, clock: list[float]) -> None:
    """The database may have been away for all until now: the others get the time to say that they are alive."""
    heartbeat = make_heartbeat(database, [])
    assert not heartbeat.may_judge
    beat_for(heartbeat, clock, PATIENCE - INTERVAL)
    assert not heartbeat.may_judge
    beat_for(heartbeat, clock, INTERVAL)
    assert heartbeat.may_judge


def beat_for(heartbeat: Heartbeat, clock: list[float], seconds: float) -> None:
    """Let so much time pass, with a beat at each interval."""
    end = clock[0] + seconds
    while clock[0] < end:
        clock[0] += INTERVAL
        heartbeat.beat()


def test_one_that_has_not_beaten_for_long_may_not(database: Database, clock: list[float]) -> None:
    heartbeat = make_heartbeat(database, [])
    clock[0] += PATIENCE
    assert not heartbeat.may_judge


def test_nor_after_it_missed_a_beat_until_the_others_had_the_time_to_report(
    database: Database, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    heartbeat = make_heartbeat(database, [])
    database.is_away = True
    clock[0] += INTERVAL
    heartbeat.beat()
    assert [vars(record)["action"] for record in caplog.records] == ["update_heartbeat_error"]
    assert not heartbeat.may_judge
    database.is_away = False
    for _ in range(3):
        clock[0] += INTERVAL
        heartbeat.beat()
        assert not heartbeat.may_judge
    clock[0] += INTERVAL
    heartbeat.beat()
    assert heartbeat.may_judge


def test_nor_after_the_machine_was_asleep(database: Database, clock: list[float]) -> None:
    heartbeat = make_heartbeat(database, [])
    clock[0] += 3600
    heartbeat.beat()
    assert not heartbeat.may_judge
    clock[0] += PATIENCE - 1
    heartbeat.beat()
    assert not heartbeat.may_judge
    clock[0] += 1
    assert heartbeat.may_judge


def test_one_that_was_judged_registers_anew(database: Database, clock: list[float]) -> None:
    new_ids: list[int] = []
    heartbeat = make_heartbeat(database, new_ids)
    database.knows = False
    heartbeat.beat()
    heartbeat.beat()
    assert new_ids == [2]


def test_it_beats_until_it_is_stopped(database: Database) -> None:
    heartbeat = make_heartbeat(database, [], interval=0.001)
    heartbeat.start()
    for _ in range(3):
        assert database.beaten.wait(5)
        database.beaten.clear()
    heartbeat.stop()
    heartbeat.join(5)
    assert "procrastinate-heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_it_does_not_wait_for_the_next_beat_to_stop(database: Database) -> None:
    heartbeat = make_heartbeat(database, [], interval=3600)
    heartbeat.start()
    heartbeat.stop()
    heartbeat.join(5)
    assert "procrastinate-heartbeat" not in [thread.name for thread in threading.enumerate()]
