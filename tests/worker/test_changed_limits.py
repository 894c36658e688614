"""A limit that an operator lowers and raises while worker processes run its jobs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from procrastinate import App
from tests.worker.limited_processes import workers
from tests.worker.limited_program import SIZED
from tests.worker.limited_program import app as program
from tests.worker.running import Queue, until
from tests.worker.test_limits import LEFT

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
ROUNDS, PROCESSES = (20, 4) if LONG else (2, 2)
JOBS = 60_000 if LONG else 6000

HELD = """
SELECT count(*) FROM procrastinate_jobs
WHERE limit_name = 'sized' AND (status = 'doing' OR (status = 'todo' AND readiness = 1))
"""
NEXT_TRANSACTION = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
OLDEST_OPEN = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[App]:
    """Return an app, after jobs were deferred that keep the workers busy until the end of the test."""
    async with App(connector=database_url).open_async() as opened:
        await opened.limits.set_async(SIZED.name, concurrency=10, allow_undefined=True)
        with program.replace_connector(opened.connector) as deferring:
            for start in range(0, JOBS, 3000):
                calls = [{"key": 0, "seconds": 0.1}] * min(3000, JOBS - start)
                await deferring.tasks["sized"].batch_defer_async(*calls)
        yield opened


async def after_those_under_way(queue: Queue) -> None:
    """Wait until the statements that may not have seen the last change have ended."""
    first_after: int = queue.sql(NEXT_TRANSACTION)
    await until(lambda: queue.sql(OLDEST_OPEN) >= first_after)


async def only_falls_to(queue: Queue, number: int) -> list[int]:
    """Wait until so few slots are taken, and check that not one more is taken on the way."""
    seen = [queue.sql(HELD)]
    loop = asyncio.get_running_loop()
    end = loop.time() + 30
    while seen[-1] > number:
        seen.append(queue.sql(HELD))
        assert seen[-1] <= seen[-2], seen
        assert loop.time() < end, seen
        await asyncio.sleep(0.001)
    return seen


async def stays_at(queue: Queue, number: int, *, samples: int = 50) -> None:
    """Check that no more slots are taken, and that all of these are taken most of the time."""
    seen = []
    for _ in range(samples):
        seen.append(queue.sql(HELD))
        await asyncio.sleep(0.01)
    assert max(seen) == number, seen
    assert seen.count(number) > samples / 2, seen


@pytest.mark.timeout(900 if LONG else 120)
async def test_a_limit_that_is_lowered_and_raised_under_load_holds_at_once(
    queue: Queue, database_url: str, opened: App
) -> None:
    with workers(database_url, PROCESSES, slots=10):
        await until(lambda: queue.sql(HELD) == 10)
        for number in range(ROUNDS):
            await stays_at(queue, 10)
            await opened.limits.set_async(SIZED.name, concurrency=3)
            await after_those_under_way(queue)
            await only_falls_to(queue, 3)
            await stays_at(queue, 3)
            await opened.limits.set_async(SIZED.name, concurrency=20)
            await until(lambda: queue.sql(HELD) == 20)
            await stays_at(queue, 20)
            await opened.limits.set_async(SIZED.name, concurrency=10)
            await after_those_under_way(queue)
            await only_falls_to(queue, 10)
            assert queue.sql(LEFT) > 500, f"there were too few jobs for {ROUNDS} rounds: {number} were played"
