"""Unique keys that many producers want, while a worker is killed and its jobs are rescued, fail and are retried."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import App, Unique
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.types import OnConflict
from tests.worker.limited_processes import workers
from tests.worker.running import Queue, until
from tests.worker.test_limits import LEFT

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
PRODUCERS, KILLS = 16, 10 if LONG else 1
PERIOD = 2.0
"""Seconds."""
TOLERANCE = 0.5
"""Seconds. A transaction may write the event some time after it has begun, which is when the period begins."""
PAUSE = 0.5
"""Seconds between two rounds of a producer."""

UNTIL: dict[str, Any] = {"start": "start", "end": "end", "period": {"seconds": PERIOD}}
POLICIES: tuple[OnConflict, ...] = ("raise", "skip", "replace")
KEYS = {
    key: Unique(by=key, until=UNTIL[until], on_conflict=on_conflict)
    for until, on_conflict in itertools.product(UNTIL, POLICIES)
    for key in (f"{until} {on_conflict}",)
}

_OF = "FROM procrastinate_jobs WHERE args ->> 'key' LIKE"
_STARTED = "SELECT FROM procrastinate_events WHERE job_id = procrastinate_jobs.id AND type = 'started'"
MOST_OPEN = f"""
SELECT max(number) FROM (
    SELECT count(*) {_OF} 'end %' AND status IN ('todo', 'doing') GROUP BY args ->> 'key'
) AS counted (number)
"""  # noqa: S608
MOST_NEW = f"""
SELECT max(number) FROM (
    SELECT count(*) {_OF} 'start %' AND status = 'todo' AND NOT EXISTS ({_STARTED}) GROUP BY args ->> 'key'
) AS counted (number)
"""  # noqa: S608
SHORTEST_PERIOD = """
SELECT min(gap)::float FROM (
    SELECT extract(epoch FROM at - lag(at) OVER (PARTITION BY args ->> 'key' ORDER BY job_id))
    FROM procrastinate_events JOIN procrastinate_jobs ON procrastinate_jobs.id = job_id
    WHERE type = 'deferred' AND args ->> 'key' LIKE 'period %'
) AS gaps (gap)
"""
RUNNING = f"SELECT count(*) {_OF} 'end %' AND status = 'doing' AND (args ->> 'must_wait')::boolean"
RESCUED = f"SELECT count(*) {_OF} 'end %' AND status = 'succeeded' AND rescues > 0"
FEWEST_OF_A_PERIOD = f"SELECT min(number) FROM (SELECT count(*) {_OF} 'period %' GROUP BY args ->> 'key') AS c (number)"  # noqa: S608
WAIT_NO_MORE = "UPDATE procrastinate_jobs SET args = args || '{\"must_wait\": false}' WHERE status = 'todo'"
IDS = """
SELECT jsonb_object_agg(key, ids)
FROM (SELECT args ->> 'key', jsonb_agg(id) FROM procrastinate_jobs GROUP BY 1) AS of_keys (key, ids)
"""


class Producers:
    """Threads that defer a job with each key again and again. Every other one defers in a transaction of its own.

    The jobs of ``until="start"`` free their keys when they start. Only one thread lets them wait, so that they leave
    slots to other jobs.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.must_wait = True
        self.deferred: defaultdict[str, list[int]] = defaultdict(list)
        """The ids that defers have returned, by the key."""
        self._engine = engine
        self._app = App(connector=engine)
        self._rounds = [0] * PRODUCERS
        self._must_end = threading.Event()
        self._futures: list[Future[None]] = []

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Produce until the end of the block."""
        with self._app.open(), ThreadPoolExecutor(PRODUCERS) as threads:
            self._futures = [threads.submit(self._produce, number) for number in range(PRODUCERS)]
            try:
                yield
            finally:
                self._must_end.set()
            for future in self._futures:
                future.result()

    async def end(self) -> None:
        """End, and wait for the last defers."""
        self._must_end.set()
        await until(lambda: all(future.done() for future in self._futures))

    async def have_gone_round(self) -> None:
        """Wait until each producer has begun and ended a round."""
        before = list(self._rounds)
        await until(lambda: all(now >= then + 2 for then, now in zip(before, self._rounds, strict=True)))

    def _produce(self, number: int) -> None:
        while not self._must_end.wait(PAUSE):
            for key in KEYS:
                with contextlib.suppress(AlreadyEnqueued):
                    self.deferred[key].append(self._defer(key, number))
            self._rounds[number] += 1

    def _defer(self, key: str, number: int) -> int:
        must_wait = self.must_wait and (number == 0 or not key.startswith("start"))
        job = {"key": key, "number": number, "must_wait": must_wait}
        if number % 2:
            return self._app.configure_task("unique by policy", unique=KEYS[key]).defer(**job)
        with self._engine.begin() as connection:
            try:
                task = self._app.configure_task("unique by policy", unique=KEYS[key], connection=connection)
                return task.defer(**job)
            finally:
                assert connection.scalar(sa.text("SELECT 1")) == 1, "the transaction of the caller stays usable"


def check_keys(queue: Queue) -> None:
    """Check in one snapshot that no key has two jobs."""
    assert (queue.sql(MOST_OPEN) or 0) <= 1
    assert (queue.sql(MOST_NEW) or 0) <= 1


@pytest.fixture
def producers(database_url: str) -> Iterator[Producers]:
    """Return producers with as many connections."""
    engine = sa.create_engine(database_url, pool_size=PRODUCERS)
    yield Producers(engine)
    engine.dispose()


@pytest.mark.timeout(400 if LONG else 120)
async def test_no_key_has_two_jobs_whatever_many_producers_and_a_killed_worker_do(
    queue: Queue, database_url: str, producers: Producers
) -> None:
    """A job waits until its worker is killed. Another worker rescues it, it fails, and is retried."""
    with workers(database_url, 1, slots=2 * PRODUCERS) as running, producers.at_work():
        for kill in range(KILLS):
            producers.must_wait = True
            await until(lambda: queue.sql(RUNNING) == 3)
            producers.must_wait = False
            await producers.have_gone_round()
            queue.sql(WAIT_NO_MORE)
            running.kill_one()
            while queue.sql(RESCUED) < 3 * (kill + 1):
                check_keys(queue)
                await asyncio.sleep(0.02)
        while queue.sql(FEWEST_OF_A_PERIOD) < 3:
            check_keys(queue)
            await asyncio.sleep(0.02)
        await producers.end()
        await until(lambda: not queue.sql(LEFT))
    stored: dict[str, list[int]] = queue.sql(IDS)
    print({key: (len(stored[key]), len(producers.deferred[key])) for key in KEYS})
    assert {key: set(ids) for key, ids in stored.items()} == {key: set(producers.deferred[key]) for key in KEYS}
    assert all(len(producers.deferred[key]) == len(stored[key]) for key in KEYS if key.endswith("raise"))
    assert queue.sql(SHORTEST_PERIOD) >= PERIOD - TOLERANCE
    assert queue.statuses().keys() == {"succeeded"}
