"""A queue of jobs with a limit is paused and resumed while worker processes run them."""

from __future__ import annotations

import asyncio
import datetime
import os

import pytest

from procrastinate import App
from tests.worker.limited_processes import workers
from tests.worker.limited_program import SIZED
from tests.worker.limited_program import app as program
from tests.worker.running import Queue, until
from tests.worker.test_limits import LEFT

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
ROUNDS, JOBS, PROCESSES = (20, 60_000, 4) if LONG else (2, 4000, 2)
A_MOMENT = datetime.timedelta(seconds=1)
ALLOWANCE = datetime.timedelta(seconds=0 if LONG else 3)
"""What other programs on the machine may add, in the short form."""
QUIET = 3.0 if LONG else 1.5
"""Seconds for which the test looks whether a job starts."""

NOW = "SELECT clock_timestamp()"
STARTS = "FROM procrastinate_events JOIN procrastinate_jobs ON procrastinate_jobs.id = job_id WHERE type = 'started'"
LAST_START = f"SELECT max(at) {STARTS} AND queue_name = 'mail'"
NEXT_START = f"SELECT min(at) {STARTS} AND queue_name = 'mail' AND at > :after"
RUNNING = "SELECT count(*) FROM procrastinate_jobs WHERE queue_name = 'mail' AND status = 'doing'"
OTHERS_LEFT = f"{LEFT} AND queue_name <> 'mail'"
FAILED = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('failed', 'aborted') OR attempts > 1"


async def next_start(queue: Queue, after: datetime.datetime) -> datetime.datetime:
    """Wait until a job of the queue has started after this time, and return when."""
    started: datetime.datetime = await until(lambda: queue.sql(NEXT_START, after=after))
    return started


@pytest.mark.timeout(600 if LONG else 120)
async def test_no_job_starts_a_second_after_the_pause_of_its_queue_and_the_next_one_starts_at_once_after_it(
    queue: Queue, database_url: str
) -> None:
    """Jobs that run go on to their end. Jobs of the same limit in another queue take the slots."""
    async with App(connector=database_url).open_async() as opened:
        await opened.limits.set_async(SIZED.name, concurrency=10, allow_undefined=True)
        with program.replace_connector(opened.connector) as deferring:
            sized = deferring.tasks["sized"]
            for start in range(0, JOBS, 2000):
                calls = [{"key": 0, "seconds": 0.1}] * min(2000, JOBS - start)
                await sized.configure(queue="mail").batch_defer_async(*calls)
            with workers(database_url, PROCESSES, slots=10):
                await until(lambda: queue.sql(RUNNING) >= 5)
                for _ in range(ROUNDS):
                    await opened.queues.pause_async("mail")
                    paused_at = queue.sql(NOW)
                    await sized.configure(queue="other").batch_defer_async(*[{"key": 0}] * 50)
                    await until(lambda: not queue.sql(RUNNING) and not queue.sql(OTHERS_LEFT))
                    await asyncio.sleep(QUIET)  # nothing happens, and no event says so
                    last = queue.sql(LAST_START) - paused_at
                    resumed_at = queue.sql(NOW)
                    await opened.queues.resume_async("mail")
                    resumed = await next_start(queue, resumed_at) - resumed_at
                    print(f"last start after {last}, next start after {resumed}")
                    assert last <= A_MOMENT + ALLOWANCE
                    assert resumed <= A_MOMENT + ALLOWANCE
                    await until(lambda: queue.sql(RUNNING) >= 5)
    assert queue.sql(LEFT) > 100, "there were too few jobs for all pauses"
    assert queue.sql(FAILED) == 0
