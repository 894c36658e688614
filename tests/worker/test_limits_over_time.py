"""Limits over minutes: two rates of very different periods, and the turns of customers whose jobs keep coming."""

from __future__ import annotations

import asyncio
import collections
import datetime
import itertools
import os
import random
from collections.abc import Sequence

import pytest

from procrastinate import App, Limit, Rate
from tests.worker.limited_processes import Workers, workers
from tests.worker.limited_program import WEIGHED
from tests.worker.limited_program import app as program
from tests.worker.running import Queue, until
from tests.worker.test_limits import CUSTOMERS as LATE_CUSTOMERS
from tests.worker.test_limits import LEFT, LEFT_OF_SMALL, MOST_IN_A_WINDOW, NOTE_STARTS, OF_BIG, STARTS

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
A_SECOND, AN_HOUR, CLOSED_FOR = (50, 1000, 30.0) if LONG else (20, 120, 1.0)
"""The starts in a second and in an hour, and for how many seconds the test looks whether the hour is closed."""
HEAVIEST = 7
ALLOWANCE = 0.0 if LONG else 10.0
"""Seconds that other programs on the machine may delay starts, in the short form."""
NOTE_RETURNS = """
CREATE TABLE returned (is_release boolean NOT NULL);
CREATE FUNCTION note_return() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO returned (is_release) VALUES (NEW.attempts = OLD.attempts);
    RETURN NULL;
END $$;
CREATE TRIGGER note_return AFTER UPDATE ON procrastinate_jobs
    FOR EACH ROW WHEN (OLD.status = 'doing' AND NEW.status = 'todo') EXECUTE FUNCTION note_return();
"""
USED = "SELECT coalesce(sum(weight), 0) FROM noted"
NOW = "SELECT clock_timestamp()"
DELETE_ENDED = """
WITH deleted AS (DELETE FROM procrastinate_jobs WHERE status IN ('succeeded', 'failed') RETURNING id)
SELECT count(*) FROM deleted
"""
STOOD_STILL = "SELECT extract(epoch FROM min(at) - :stopped_at)::float FROM noted WHERE at > :ended_at"


class Disturbances:
    """Stops all workers, deletes jobs that have ended, and kills a worker. The long form does so again and again."""

    def __init__(self, queue: Queue, running: Workers) -> None:
        self._queue = queue
        self._running = running
        acts = (self._stop, self._delete, self._kill)
        self._acts = itertools.cycle(acts) if LONG else iter(acts)
        self._next: float | None = None
        self._used = 0
        self.stops: list[dict[str, datetime.datetime]] = []
        """When all workers were asked to stop, and when the last one had ended."""
        self.deleted = 0
        self.kills = 0

    def go_on(self, now: float, used: int) -> None:
        """Do the next one, a moment after the first start that follows the one before."""
        if used <= self._used:
            return
        if self._next is None:
            self._next = now + random.uniform(0.3, 1.2)
        if now >= self._next:
            next(self._acts, lambda: None)()
            self._next, self._used = None, self._queue.sql(USED)

    def _stop(self) -> None:
        stopped_at = self._queue.sql(NOW)
        self._running.stop_all()
        self.stops.append({"stopped_at": stopped_at, "ended_at": self._queue.sql(NOW)})
        self._running.start_again()

    def _delete(self) -> None:
        self.deleted += self._queue.sql(DELETE_ENDED)

    def _kill(self) -> None:
        self._running.kill_one()
        self.kills += 1

    def stood_still(self) -> float:
        """Return for how many seconds no worker was there, from each stop until the next start of a job."""
        return sum(self._queue.sql(STOOD_STILL, **stop) or 0.0 for stop in self.stops)


async def defer_weighed_jobs(opened: App, weights: Sequence[int]) -> None:
    """Defer jobs of twice the rate of the hour, and delete some of them in line."""
    with program.replace_connector(opened.connector) as deferring:
        ids: list[int] = []
        for weight in weights:
            number = 2 * AN_HOUR // sum(weights)
            ids += await deferring.tasks["weighed"].configure(weight=weight).batch_defer_async(*[{}] * number)
        for job_id in random.sample(ids, len(ids) // 20):
            await opened.job_manager.cancel_job_by_id_async(job_id, delete_job=True)


@pytest.mark.timeout(400 if LONG else 120)
@pytest.mark.parametrize("weights", [(1,), range(1, HEAVIEST + 1)], ids=["light jobs", "heavy jobs"])
async def test_a_rate_a_second_and_a_rate_an_hour_are_used_and_hold_whatever_becomes_of_the_workers(
    queue: Queue, database_url: str, weights: Sequence[int]
) -> None:
    """Jobs fail and are retried, are released before they start, and are deleted in line and after their end.

    Nine tenths of the rate of the second are used while workers run. A stop of all workers costs no more than the time
    until they are there again.
    """
    queue.sql(NOTE_STARTS)
    queue.sql(NOTE_RETURNS)
    loop = asyncio.get_running_loop()
    async with App(connector=database_url).open_async() as opened:
        rates = [Rate(A_SECOND, per=1), Rate(AN_HOUR, per=3600)]
        await opened.limits.set_async(WEIGHED.name, rate=rates, allow_undefined=True)
        await defer_weighed_jobs(opened, weights)
        with workers(database_url, 3, slots=1) as running:
            disturbances = Disturbances(queue, running)
            while (used := queue.sql(USED)) <= AN_HOUR - HEAVIEST:
                disturbances.go_on(loop.time(), used)
                await asyncio.sleep(0.05)
            used = queue.sql(USED)
            await asyncio.sleep(CLOSED_FOR)  # the hour is closed: nothing happens, and no event says so
    lasted = queue.sql("SELECT extract(epoch FROM max(at) - min(at))::float FROM noted")
    stood_still = disturbances.stood_still()
    releases = queue.sql("SELECT count(*) FROM returned WHERE is_release")
    retries = queue.sql("SELECT count(*) FROM returned WHERE NOT is_release")
    print(
        f"{used} starts in {lasted:.1f} s, {stood_still:.1f} s of it without workers; {len(disturbances.stops)} stops, "
        f"{disturbances.kills} kills, {disturbances.deleted} deleted, {releases} releases, {retries} retries"
    )
    assert min(len(disturbances.stops), disturbances.deleted, disturbances.kills) > 0
    assert (min if LONG else max)(releases, retries) > 0
    assert queue.sql(USED) <= AN_HOUR
    assert A_SECOND - HEAVIEST < queue.sql(MOST_IN_A_WINDOW, window="0.9999 s") <= A_SECOND
    assert lasted - stood_still <= used / A_SECOND / 0.9 + ALLOWANCE
    assert queue.sql(LEFT) > 0


SECONDS = 600 if LONG else 4
CUSTOMERS = 20
PRIORITIES = (0, 5, -5)
JOBS_OF_BIG = 300 * SECONDS


@pytest.mark.timeout(SECONDS + 120)
async def test_no_customer_starves_while_jobs_of_all_keep_coming(database_url: str, queue: Queue) -> None:
    """Each small customer defers a job a second, with one priority after the other. A big one has jobs without end."""
    by_tenant = Limit("fair", by=lambda kwargs: kwargs["tenant"], fair=True)
    starts = 0
    at_arrival: dict[int, int] = {}
    waited: dict[int, list[int]] = collections.defaultdict(list)

    app = App(connector=database_url)

    @app.task(limit=by_tenant)
    async def work(tenant: str, number: int) -> None:
        nonlocal starts
        starts += 1
        if tenant != "big":
            waited[number % len(PRIORITIES)].append(starts - at_arrival[number])
        await asyncio.sleep(random.uniform(0, 0.07))

    async with app.open_async():
        for _ in range(0, JOBS_OF_BIG, 500):
            await work.batch_defer_async(*[{"tenant": "big", "number": -1}] * 500)
        worker = asyncio.create_task(app.run_worker_async(concurrency=10))
        for number in range(SECONDS * CUSTOMERS):
            at_arrival[number] = starts
            priority = PRIORITIES[number % len(PRIORITIES)]
            deferrer = work.configure(priority=priority)
            await deferrer.defer_async(tenant=f"small-{number % CUSTOMERS}", number=number)
            await asyncio.sleep(1 / CUSTOMERS)
        async with asyncio.timeout(30):
            while sum(map(len, waited.values())) < SECONDS * CUSTOMERS:  # noqa: ASYNC110 - the last jobs start
                await asyncio.sleep(0.05)
        assert queue.sql(LEFT) > 0, "the big customer had too few jobs for the test"
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    longest = {PRIORITIES[index]: max(places) for index, places in sorted(waited.items())}
    print(f"{starts} starts; the longest wait of a small customer's job, in starts, by priority: {longest}")
    assert set(longest) == set(PRIORITIES)
    assert max(longest.values()) <= 4 * (CUSTOMERS + 1)


SLOTS = 10
STARTED = "SELECT count(*) FROM procrastinate_events WHERE type = 'started'"


@pytest.mark.timeout(600 if LONG else 120)
async def test_late_customers_get_their_turns_on_several_workers(database_url: str, queue: Queue) -> None:
    """Twenty jobs of each new customer start within 1.1 times the starts that they share with the big one."""
    async with App(connector=database_url).open_async() as opened:
        with program.replace_connector(opened.connector) as deferring:
            fair = deferring.tasks["fair"]
            for _ in range(0, OF_BIG, 500):
                await fair.batch_defer_async(*[{"tenant": "big"}] * 500)
            with workers(database_url, 2, slots=SLOTS // 2):
                await until(lambda: queue.sql(STARTED) >= 100)
                customers = [f"small-{one % LATE_CUSTOMERS}" for one in range(20 * LATE_CUSTOMERS)]
                late = await fair.batch_defer_async(*({"tenant": one} for one in customers))
                before = queue.sql(STARTED)
                while left := queue.sql(LEFT_OF_SMALL):
                    await until(lambda left=left: queue.sql(LEFT_OF_SMALL) < left)  # type: ignore[misc]
    started = queue.sql(STARTS)
    place = started.index(max(late, key=started.index)) - before
    print(f"the last of {len(late)} jobs started after {place} others")
    assert place <= 1.1 * (LATE_CUSTOMERS + 1) * 20 + SLOTS
    assert queue.sql(LEFT) > 0, "the big customer had too few jobs for the test"
