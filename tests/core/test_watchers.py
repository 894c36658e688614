"""Which workers look after the others."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import WorkerIdentity, WorkerReport, WorkerTerms
from procrastinate.core.defaults import LONGEST
from procrastinate.core.watchers import MOST_WATCHERS

INTERVAL = 10.0
TERMS = WorkerTerms(heartbeat_interval=INTERVAL, stalled_timeout=30.0)
IDENTITY = WorkerIdentity(name="worker", hostname="host", pid=1, version="4", queues=None, concurrency=1, listens=True)


def beat(connection: sa.Connection, worker_id: int, interval: float = INTERVAL) -> bool:
    """Send a heartbeat, and return whether the worker is a watcher."""
    answer = core.beat(connection, worker_id, WorkerReport(loop_age=INTERVAL), interval=interval)
    assert answer is not None
    return answer.is_watcher


def change(connection: sa.Connection, worker_id: int, values: str) -> None:
    connection.exec_driver_sql(f"UPDATE procrastinate_workers SET {values} WHERE id = {worker_id}")  # noqa: S608


@pytest.fixture
def fleet(connection: sa.Connection) -> list[int]:
    """Workers that are all alive, by id: as many as may be watchers, and one more."""
    ids = sorted(core.register_worker(connection, TERMS, IDENTITY) for _ in range(MOST_WATCHERS + 1))
    for worker_id in ids:
        beat(connection, worker_id)
    return ids


def test_the_first_workers_by_id_are_watchers(connection: sa.Connection, fleet: list[int]) -> None:
    assert [beat(connection, worker_id) for worker_id in fleet] == [True] * MOST_WATCHERS + [False]


def test_a_worker_becomes_a_watcher_when_one_signs_off(connection: sa.Connection, fleet: list[int]) -> None:
    core.unregister_worker(connection, fleet[0])
    assert beat(connection, fleet[-1])


@pytest.mark.parametrize(
    "values",
    [
        "last_heartbeat = now() - interval '13 s'",
        "last_heartbeat = now() + interval '1 hour'",
        "last_heartbeat = 'infinity'",
        "last_heartbeat = '-infinity'",
        "loop_beat_at = now() - interval '31 s'",
        "loop_beat_at = NULL",
        "loop_beat_at = 'infinity'",
        "state = 'draining'",
        "state = NULL",
        "version = '3.10.0'",
        "version = NULL",
        "heartbeat_interval = 20",
        "heartbeat_interval = NULL",
        "heartbeat_interval = 'NaN'",
        "heartbeat_interval = 'infinity'",
    ],
)
def test_a_worker_that_may_not_look_as_often_does_not_count(
    connection: sa.Connection, fleet: list[int], values: str
) -> None:
    change(connection, fleet[0], values)
    assert beat(connection, fleet[-1])


@pytest.mark.parametrize(
    "values", ["last_heartbeat = now() - interval '12 s'", "loop_beat_at = now() - interval '29 s'"]
)
def test_a_worker_between_two_heartbeats_counts(connection: sa.Connection, fleet: list[int], values: str) -> None:
    change(connection, fleet[0], values)
    assert not beat(connection, fleet[-1])


@pytest.mark.parametrize("interval", [0.001, LONGEST])
def test_a_heartbeat_is_recorded_whatever_its_interval(
    connection: sa.Connection, fleet: list[int], interval: float
) -> None:
    assert isinstance(beat(connection, fleet[-1], interval), bool)


def test_a_worker_without_a_release_beats_too(connection: sa.Connection, fleet: list[int]) -> None:
    """Plain SQL registers such a worker. It has nothing to compare, so it is a watcher."""
    values: dict[str, Any] = {"worker_id": core.register_worker(connection), "report": WorkerReport()}
    answer = core.beat(connection, **values, interval=INTERVAL)
    assert answer is not None
    assert answer.is_watcher
