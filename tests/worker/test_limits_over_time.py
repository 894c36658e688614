"""Limits over minutes: two rates of very different periods, and the turns of customers whose jobs keep coming."""

from __future__ import annotations

import asyncio
import collections
import os
import random
from collections.abc import Iterable

import pytest

from procrastinate import App, Limit, Rate
from tests.worker.limited_processes import workers
from tests.worker.limited_program import WEIGHED
from tests.worker.limited_program import app as program
from tests.worker.running import Queue
from tests.worker.test_limits import LEFT, MOST_IN_A_WINDOW, NOTE_STARTS

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
A_SECOND = 50
AN_HOUR, CLOSED_FOR = (1000, 30.0) if LONG else (150, 1.0)
"""The starts in an hour, and for how many seconds the test looks whether the hour is closed."""
HEAVIEST = 7


@pytest.mark.timeout(240 if LONG else 60)
@pytest.mark.parametrize("weights", [(1,), range(1, HEAVIEST + 1)], ids=["light jobs", "heavy jobs"])
async def test_a_rate_a_second_and_a_rate_an_hour_are_used_and_hold_while_workers_are_killed(
    queue: Queue, database_url: str, weights: Iterable[int]
) -> None:
    """Jobs of twice the rate of the hour wait, some are deleted in line, and some fail and are retried.

    Killed workers lose no start of the second: the jobs of a window start within nine tenths of the best time, and the
    time that two workers need to begin.
    """
    queue.sql(NOTE_STARTS)
    loop = asyncio.get_running_loop()
    async with App(connector=database_url).open_async() as opened:
        rates = [Rate(A_SECOND, per=1), Rate(AN_HOUR, per=3600)]
        await opened.limits.set_async(WEIGHED.name, rate=rates, allow_undefined=True)
        with program.replace_connector(opened.connector) as deferring:
            ids: list[int] = []
            for weight in weights:
                number = 2 * AN_HOUR // sum(weights)
                deferrer = deferring.tasks["weighed"].configure(weight=weight)
                ids += await deferrer.batch_defer_async(*[{}] * number)
            for job_id in random.sample(ids, len(ids) // 20):
                await opened.job_manager.cancel_job_by_id_async(job_id, delete_job=True)
        with workers(database_url, 3) as running:
            kill_at = loop.time() + 2
            while (queue.sql("SELECT sum(weight) FROM noted") or 0) <= AN_HOUR - HEAVIEST:
                if LONG and loop.time() > kill_at:
                    running.kill_one()
                    kill_at = loop.time() + random.uniform(1, 3)
                await asyncio.sleep(0.05)
            used = queue.sql("SELECT sum(weight) FROM noted")
            await asyncio.sleep(CLOSED_FOR)  # the hour is closed: nothing happens, and no event says so
    lasted = queue.sql("SELECT extract(epoch FROM max(at) - min(at))::float FROM noted")
    print(f"{used} starts in {lasted:.1f} s")
    assert queue.sql("SELECT sum(weight) FROM noted") <= AN_HOUR
    assert A_SECOND - HEAVIEST < queue.sql(MOST_IN_A_WINDOW, window="0.9999 s") <= A_SECOND
    assert lasted <= (used / A_SECOND) / 0.9 + (0 if LONG else 1)
    assert queue.sql(LEFT) > 0


SECONDS = 600 if LONG else 4
CUSTOMERS = 20
PRIORITIES = (0, 5, -5)
OF_BIG = 300 * SECONDS


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
        for _ in range(0, OF_BIG, 500):
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
    assert max(longest.values()) <= 2 * (CUSTOMERS + 1) * 20
