"""Limits on several worker processes, by what a trigger notes with the clock of the server."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import itertools
import os

import pytest

from procrastinate import App
from tests.worker.limited_processes import Workers, workers
from tests.worker.limited_program import HEARTBEAT, SIZED
from tests.worker.limited_program import app as program
from tests.worker.running import Queue, until
from tests.worker.test_limits import LEFT

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
JOBS, PROCESSES, SLOTS = (20_000, 4, 20) if LONG else (200, 2, 10)
TIMEOUT = 3.0
"""Seconds without a heartbeat after which a worker is dead.

The others watch a worker for a second more than a heartbeat before they judge it. So a timeout that is shorter than
three heartbeats and a second is met later.
"""
ALLOWANCE = 0.0 if LONG else 2.0
"""Seconds that other programs on the machine may delay a rescue, in the short form."""
MOST_KILLS = 60
"""One slot stands still for three seconds after each kill. With a kill a second, 20,000 jobs would take an hour."""
SIZES = list(itertools.product((1, 10, 1000), (1, 5, 50))) if LONG else [(1, 5), (10, 1)]
"""Numbers of keys, and slots of each key."""

LEDGER = """
CREATE TABLE ledger (
    limit_key text, worker_id bigint, at timestamptz NOT NULL DEFAULT clock_timestamp(), change integer NOT NULL
);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger (limit_key, worker_id, change)
    SELECT NEW.limit_key, coalesce(NEW.worker_id, OLD.worker_id),
        coalesce(NEW.limit_weight, 1) * CASE WHEN NEW.status = 'doing' THEN 1 ELSE -1 END;
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
HOLDING = """
SELECT jsonb_object_agg(pid, id) FROM procrastinate_workers
WHERE pid IS NOT NULL AND id IN (SELECT worker_id FROM procrastinate_jobs WHERE status = 'doing')
"""
BACK_AFTER = """
SELECT extract(epoch FROM max(at) - :killed_at)::float FROM ledger WHERE worker_id = :worker_id AND change < 0
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
    """Kills a worker that has slots each second, and notes when. The first worker stays, to find the others dead."""

    queue: Queue
    running: Workers
    at: dict[int, datetime.datetime] = dataclasses.field(default_factory=dict)
    """When a worker was killed, by its id and the clock of the server."""
    _next: float = 0.0

    def go_on(self, now: float) -> None:
        """Kill the next one if it is time."""
        if now < self._next or len(self.at) >= MOST_KILLS:
            return
        ids_by_pid: dict[str, int] = self.queue.sql(HOLDING) or {}
        for place, pid in enumerate(self.running.pids):
            if place > 0 and str(pid) in ids_by_pid:
                self.at[ids_by_pid[str(pid)]] = self.queue.sql("SELECT clock_timestamp()")
                self.running.kill_one(place)
                self._next = now + 1
                return

    def longest(self) -> float:
        """Return the most seconds from a kill until the slots of that worker were free."""
        return max(
            self.queue.sql(BACK_AFTER, worker_id=worker_id, killed_at=killed_at) or 0.0
            for worker_id, killed_at in self.at.items()
        )


@pytest.mark.timeout(1800 if LONG else 120)
@pytest.mark.parametrize("kills", [False, True], ids=["workers live", "workers are killed"])
@pytest.mark.parametrize(("keys", "slots"), SIZES)
async def test_no_key_ever_has_more_slots_than_its_limit(
    queue: Queue, database_url: str, keys: int, slots: int, kills: bool
) -> None:
    """The slots of a killed worker are free after its timeout and a heartbeat."""
    queue.sql(LEDGER)
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with App(connector=database_url).open_async() as opened:
        seconds = 0.1 * keys * slots / min(slots, 2) if kills and not LONG else 0.01  # long enough for a kill
        await defer_jobs(opened, keys=keys, slots=slots, seconds=seconds)
        with workers(database_url, PROCESSES, slots=SLOTS, timeout=TIMEOUT) as running:
            killing = Kills(queue, running)
            while queue.sql(LEFT):
                if kills:
                    killing.go_on(loop.time())
                await asyncio.sleep(0.05)
        assert {(one.held, one.in_line) for one in await opened.limits.list_async()} == {(0, 0)}
    print(f"{keys} keys, {slots} slots: {loop.time() - start:.0f} s, {len(killing.at)} kills")
    assert queue.sql("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'") == JOBS
    assert queue.sql(MOST) <= slots
    assert queue.sql("SELECT sum(change) FROM ledger") == 0
    if kills:
        longest = killing.longest()
        print(f"slots back within {longest:.2f} s")
        assert 0 < longest <= TIMEOUT + HEARTBEAT + ALLOWANCE


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
