"""The watch: a worker is dead after several looks, by two clocks, and never after one."""

from __future__ import annotations

import dataclasses

import pytest

from procrastinate.core import LateWorker
from procrastinate.worker.services.liveness_watch import Pulse, Watch

INTERVAL, TIMEOUT = 10.0, 30.0


class Database:
    """A row of a worker, looked at by a watcher whose clock is ``now``."""

    def __init__(self, *, interval: float = INTERVAL, timeout: float = TIMEOUT) -> None:
        self.now = 1000.0
        self.clock = 5000.0
        self.heartbeat = self.clock
        self.come()
        self.terms = {"heartbeat_interval": interval, "stalled_timeout": timeout}

    def come(self) -> None:
        """The watcher starts."""
        self.pulse = Pulse(lambda: self.now)
        self.watch = Watch(INTERVAL)

    def pass_time(self, seconds: float) -> None:
        """Both clocks go on."""
        self.now += seconds
        self.clock += seconds

    def beat(self) -> None:
        """The worker is alive."""
        self.heartbeat = self.clock

    def look(self, *, answered_after: float = 0.0) -> bool:
        """Look, and say whether the worker is dead."""
        asked = self.now
        self.pass_time(answered_after)
        age = self.clock - self.heartbeat
        seen = LateWorker(id=7, heartbeat=str(self.heartbeat), age=age, has_jobs=True, seen_at=self.clock, **self.terms)
        late = [seen] if age > 1.25 * self.terms["heartbeat_interval"] or age < -1 else []
        self.pulse.answered(asked)
        pause = self.pulse.take_longest_pause()
        return bool(self.watch.look(late, asked=asked, answered=self.now, pause=pause))

    def found_dead_after(self, *, every: float, at_most: float = 1000) -> float:
        """Seconds of looks until the worker is found dead."""
        began = self.now
        while not self.look():
            assert self.now - began < at_most
            self.pass_time(every)
        return self.now - began


@pytest.fixture
def database() -> Database:
    return Database()


def test_one_look_is_never_enough(database: Database) -> None:
    database.pass_time(3600)
    assert not database.look()


def test_a_worker_that_died_is_found_dead_soon_after_its_timeout(database: Database) -> None:
    """It was watched from its last heartbeat on."""
    assert TIMEOUT <= database.found_dead_after(every=2.5) <= TIMEOUT + INTERVAL


def test_a_worker_that_died_long_ago_is_found_dead_once_it_must_have_beaten(database: Database) -> None:
    """The watcher has just come, as where the only worker has crashed and is started again."""
    database.pass_time(60)
    database.come()
    assert INTERVAL < database.found_dead_after(every=2.5) < 2 * INTERVAL


def test_a_worker_that_beats_is_never_dead(database: Database) -> None:
    for _ in range(100):
        for _ in range(4):
            database.pass_time(INTERVAL / 4)
            assert not database.look()
        database.beat()


def test_a_worker_keeps_its_own_time(database: Database) -> None:
    """It beats once a minute, and may be silent for five."""
    slow = Database(interval=60, timeout=300)
    assert 300 <= slow.found_dead_after(every=INTERVAL) <= 300 + 60


@pytest.mark.parametrize("jump", [3600, 86400 * 365])
def test_a_clock_of_the_database_that_jumps_ahead_kills_no_worker(database: Database, jump: float) -> None:
    """All heartbeats look old at once. The next one comes when it would have come."""
    database.look()
    database.clock += jump
    for _ in range(4):
        assert not database.look()
        database.pass_time(INTERVAL / 4)
    database.beat()
    assert not database.look()


def test_a_worker_that_died_is_found_although_the_clock_of_the_database_was_set_back(database: Database) -> None:
    """Its last heartbeat is of a time to come, for an hour. Then only the watcher's own clock can tell."""
    database.clock -= 3600
    assert TIMEOUT < database.found_dead_after(every=2.5) <= TIMEOUT + INTERVAL


def test_a_database_that_stood_still_between_two_looks_kills_no_worker(database: Database) -> None:
    """What it held up, heartbeats among others, has as long to arrive."""
    database.pass_time(INTERVAL * 1.3)
    assert not database.look()
    pause = 28.0
    assert not database.look(answered_after=pause)
    database.pass_time(INTERVAL)
    assert not database.look()
    database.beat()
    database.pass_time(1)
    assert not database.look()


def test_workers_get_their_whole_timeout_after_the_database_was_away(database: Database) -> None:
    """They have to find it again: some wait for an answer that was lost, some between two tries."""
    database.look()
    database.pass_time(60)
    assert TIMEOUT - 2.5 <= database.found_dead_after(every=2.5) <= TIMEOUT + 2.5


def test_a_watcher_that_was_frozen_takes_its_time_again(database: Database) -> None:
    """It cannot tell its own pause from one of the database."""
    database.pass_time(INTERVAL * 1.3)
    assert not database.look()
    database.pass_time(600)
    assert not database.look()
    assert database.found_dead_after(every=2.5) > INTERVAL


def test_a_heartbeat_begins_the_watch_again(database: Database) -> None:
    database.pass_time(25)
    for _ in range(5):
        database.look()
        database.pass_time(2.5)
    database.beat()
    database.pass_time(60)
    assert not database.look()


def test_a_watcher_that_may_find_a_worker_dead_looks_more_often(database: Database) -> None:
    database.look()
    assert database.watch.pause == INTERVAL
    database.pass_time(INTERVAL * 1.5)
    database.look()
    assert database.watch.pause == INTERVAL / 4


def test_a_watcher_does_not_hurry_while_there_is_time(database: Database) -> None:
    patient = Database(timeout=3600)
    patient.pass_time(60)
    patient.look()
    assert patient.watch.pause == INTERVAL


@pytest.mark.parametrize("interval", [0.0, -5.0, float("nan"), 1e-9])
def test_a_row_with_an_odd_interval_does_not_make_the_watcher_busy(interval: float) -> None:
    watch = Watch(INTERVAL)
    seen = LateWorker(
        id=1, heartbeat="", age=60, heartbeat_interval=interval, stalled_timeout=1, has_jobs=False, seen_at=0
    )
    watch.look([seen], asked=0, answered=0, pause=0)
    assert 0.05 <= watch.pause <= INTERVAL


def test_a_worker_without_jobs_is_not_waited_for(database: Database) -> None:
    """By a worker that ends when nothing is left to do."""
    seen = LateWorker(
        id=1, heartbeat="", age=60, heartbeat_interval=INTERVAL, stalled_timeout=30, has_jobs=True, seen_at=0
    )
    database.watch.look([dataclasses.replace(seen, has_jobs=False)], asked=0, answered=0, pause=0)
    assert not database.watch.has_jobs_to_come
    database.watch.look([seen], asked=0, answered=0, pause=0)
    assert database.watch.has_jobs_to_come
    database.watch.forget([1])
    assert not database.watch.has_jobs_to_come
