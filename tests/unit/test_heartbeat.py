"""The heartbeat: its record of the database's answers, and its reaction when its worker was pruned."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from procrastinate import core, exceptions
from procrastinate.connector import BaseConnector
from procrastinate.core import HeartbeatAnswer, WorkerIdentity, WorkerReport, WorkerTerms
from procrastinate.worker.run.run_statistics import RunStatistics
from procrastinate.worker.services.heartbeat import Heartbeat
from procrastinate.worker.services.liveness_watch import Pulse
from procrastinate.worker.services.teller import LoopBeat, Teller

INTERVAL = 10.0
TERMS = WorkerTerms(heartbeat_interval=INTERVAL, stalled_timeout=30.0)
IDENTITY = WorkerIdentity(
    name="worker", hostname="host", pid=1, version="4", queues=None, concurrency=1, listens=True, task_list="hash"
)
ANSWER = HeartbeatAnswer(pauses={"mail": None}, is_watcher=True)


class Database(BaseConnector):
    """Accepts heartbeats, unless it is unreachable or no longer knows the worker."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.knows = True
        self.beaten = threading.Event()

    def run(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        if self.is_away:
            raise exceptions.DatabaseUnavailable
        if operation is core.register_worker:
            assert args == (TERMS, IDENTITY)
            self.knows = True
            return 2
        if operation is not core.beat:
            return None
        self.beaten.set()
        return ANSWER if self.knows else None


@pytest.fixture
def database() -> Database:
    return Database()


def make_heartbeat(
    database: Database, new_ids: list[int], interval: float = INTERVAL, pulse: Pulse | None = None
) -> Heartbeat:
    logger = logging.getLogger("procrastinate.worker.test")
    teller = make_teller([])
    return Heartbeat(database, 1, interval, TERMS, pulse or Pulse(), teller, logger, on_new_id=new_ids.append)


class _NoWork:
    def make(self) -> WorkerReport:
        return WorkerReport()

    def calls_in_threads(self) -> list[Future[Any]]:
        return []


def _running_or_closed_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        loop.close()
        return loop


def make_teller(heard: list[HeartbeatAnswer]) -> Teller:
    return Teller(
        IDENTITY,
        ["add"],
        work_report=_NoWork(),
        on_answer=heard.append,
        statistics=RunStatistics(),
        loop_beat=LoopBeat(_running_or_closed_loop()),
        logger=logging.getLogger("procrastinate.worker.test"),
    )


def test_each_beat_that_is_answered_is_noted(database: Database) -> None:
    """The worker allows other workers the time during which the database may have hung."""
    time = [1000.0]
    pulse = Pulse(lambda: time[0])
    heartbeat = make_heartbeat(database, [], pulse=pulse)
    for away in (False, True, False):
        time[0] += INTERVAL
        database.is_away = away
        heartbeat.beat()
    assert pulse.take_longest_pause() == 2 * INTERVAL


def test_a_beat_that_fails_is_logged(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    database.is_away = True
    make_heartbeat(database, []).beat()
    assert [vars(record)["action"] for record in caplog.records] == ["update_heartbeat_error"]


def test_a_worker_that_was_pruned_registers_again(database: Database) -> None:
    new_ids: list[int] = []
    heartbeat = make_heartbeat(database, new_ids)
    database.knows = False
    heartbeat.beat()
    heartbeat.beat()
    assert new_ids == [2]


async def test_the_heartbeat_goes_on_until_it_is_stopped(database: Database) -> None:
    heartbeat = make_heartbeat(database, [], interval=0.001)
    heartbeat.start()
    for _ in range(3):
        assert database.beaten.wait(5)
        database.beaten.clear()
    heartbeat.stop()
    await heartbeat.join(5)
    assert "procrastinate-heartbeat" not in [thread.name for thread in threading.enumerate()]


async def test_the_heartbeat_stops_without_waiting_for_its_next_beat(database: Database) -> None:
    heartbeat = make_heartbeat(database, [], interval=3600)
    heartbeat.start()
    heartbeat.stop()
    await heartbeat.join(5)
    assert "procrastinate-heartbeat" not in [thread.name for thread in threading.enumerate()]
