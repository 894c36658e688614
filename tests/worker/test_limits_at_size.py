"""Limits on several worker processes, by what a trigger notes with the clock of the server."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os

import pytest

from procrastinate import App
from tests.worker.limited_program import SIZED
from tests.worker.limited_program import app as program
from tests.worker.running import Queue, until
from tests.worker.test_limits import LEFT, Workers, workers

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
JOBS, PROCESSES, SLOTS = (20_000, 4, 20) if LONG else (200, 2, 10)
KILLED_PROCESSES = 7 if LONG else PROCESSES
"""With a kill a second, a worker lives as many seconds. Some must be old enough to know which worker is silent."""
SIZES = list(itertools.product((1, 10, 1000), (1, 5, 50))) if LONG else [(1, 5), (10, 1)]
"""Numbers of keys, and slots of each key."""

LEDGER = """
CREATE TABLE ledger (limit_key text, at timestamptz NOT NULL DEFAULT clock_timestamp(), change integer NOT NULL);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger (limit_key, change)
    SELECT NEW.limit_key, coalesce(NEW.limit_weight, 1) * CASE WHEN NEW.status = 'doing' THEN 1 ELSE -1 END;
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE ON procrastinate_jobs
    FOR EACH ROW WHEN ((OLD.status = 'doing') <> (NEW.status = 'doing')) EXECUTE FUNCTION note();
"""
MOST = """
SELECT max(held) FROM (
    SELECT sum(change) OVER (PARTITION BY limit_key ORDER BY at, change) AS held FROM ledger
) AS counted
"""
HOLDING = "SELECT array_agg(DISTINCT worker_id) FROM procrastinate_jobs WHERE status = 'doing'"
WATCHES_AFTER = 3.0
"""Seconds after which a worker has seen the others long enough to know which of them is silent."""
SLOTS_BACK_WITHIN = 1.5 + 0.5 + 1.0 + 4.0
"""Seconds: until a silent worker is stalled, a heartbeat, the tolerance for a late one, and a busy machine.

The design promises the first two, 2 seconds in all. This test does not prove it.
"""


async def defer_jobs(opened: App, *, keys: int, slots: int, seconds: float) -> None:
    """Defer the jobs, each third of them with another weight, and let a key have as many slots."""
    await opened.limits.set_async(SIZED.name, concurrency=slots, allow_undefined=True)
    with program.replace_connector(opened.connector) as deferring:
        for weight in (1, 2, 3):
            calls = [{"key": number % keys, "seconds": seconds} for number in range(weight - 1, JOBS, 3)]
            deferrer = deferring.tasks["sized"].configure(weight=min(weight, slots))
            for start in range(0, len(calls), 5000):
                await deferrer.batch_defer_async(*calls[start : start + 5000])


@dataclasses.dataclass
class Kills:
    """Kills a worker each second, and sees how long its jobs keep their slots.

    The oldest worker is killed, if another one has been there for long enough to see that it is gone.
    """

    queue: Queue
    running: Workers
    at: dict[int, float] = dataclasses.field(default_factory=dict)
    """When a worker was killed that still has slots, by its id."""
    number: int = 0
    longest: float = 0.0
    _seen: dict[int, float] = dataclasses.field(default_factory=dict)
    """When a worker was seen first, by its process id."""
    _next: float = 0.0

    def go_on(self, now: float) -> None:
        """Look at the slots of killed workers, and kill the next one if it is time."""
        holding = set(self.queue.sql(HOLDING) or ())
        for worker_id in [one for one in self.at if one not in holding]:
            self.longest = max(self.longest, now - self.at.pop(worker_id))
        waited = [now - killed for killed in self.at.values()]
        assert all(seconds <= SLOTS_BACK_WITHIN for seconds in waited), waited
        for pid in self.queue.sql("SELECT array_agg(pid) FROM procrastinate_workers") or ():
            self._seen.setdefault(pid, now)
        if now >= self._next and self._has_watcher(now):
            oldest = self.running.pids[0]
            worker_id = self.queue.sql("SELECT id FROM procrastinate_workers WHERE pid = :pid", pid=oldest)
            self.running.kill_one()
            self._next, self.at[worker_id] = now + 1, now
            self.number += 1

    def _has_watcher(self, now: float) -> bool:
        oldest, *others = (now - self._seen.get(pid, now) for pid in self.running.pids)
        return oldest > 0 and any(age >= WATCHES_AFTER for age in others)


@pytest.mark.timeout(1800 if LONG else 120)
@pytest.mark.parametrize("kills", [False, True], ids=["workers live", "workers are killed"])
@pytest.mark.parametrize(("keys", "slots"), SIZES)
async def test_no_key_ever_has_more_slots_than_its_limit(
    queue: Queue, database_url: str, keys: int, slots: int, kills: bool
) -> None:
    queue.sql(LEDGER)
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with App(connector=database_url).open_async() as opened:
        seconds = 0.08 * keys * slots / min(slots, 2) if kills and not LONG else 0.01  # long enough for a kill
        await defer_jobs(opened, keys=keys, slots=slots, seconds=seconds)
        with workers(database_url, KILLED_PROCESSES if kills else PROCESSES, slots=SLOTS) as running:
            killing = Kills(queue, running)
            while queue.sql(LEFT):
                if kills:
                    killing.go_on(loop.time())
                await asyncio.sleep(0.05)
        assert {(one.held, one.in_line) for one in await opened.limits.list_async()} == {(0, 0)}
    print(
        f"{keys} keys, {slots} slots: {loop.time() - start:.0f} s, {killing.number} kills, "
        f"slots back within {killing.longest:.1f} s"
    )
    assert (killing.number > 0) == kills
    assert queue.sql("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'") == JOBS
    assert queue.sql(MOST) <= slots
    assert queue.sql("SELECT sum(change) FROM ledger") == 0


async def test_jobs_in_line_are_not_written_before_their_turn(queue: Queue, database_url: str) -> None:
    number = 100_000 if LONG else 2000
    app = App(connector=database_url)
    ran: list[int] = []

    @app.task(limit=SIZED)
    async def work(key: int, number: int) -> None:
        ran.append(number)

    async with app.open_async():
        await app.limits.set_async(SIZED.name, concurrency=1, allow_undefined=True)
        for start in range(0, number, 5000):
            calls = [{"key": 1, "number": one} for one in range(start, min(start + 5000, number))]
            await work.batch_defer_async(*calls)
        deferred = queue.sql("SELECT array_agg(DISTINCT xmin::text) FROM procrastinate_jobs")
        worker = asyncio.create_task(app.run_worker_async(concurrency=5))
        await until(lambda: len(ran) >= 20)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    in_line = "FROM procrastinate_jobs WHERE readiness = 3"
    assert queue.sql(f"SELECT count(*) {in_line}") > number / 2
    assert queue.sql(f"SELECT bool_and(xmin::text = ANY (:deferred)) {in_line}", deferred=deferred)
    assert ran[:20] == list(range(20))
