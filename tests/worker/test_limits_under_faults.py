"""Limits and unique keys on real workers: clocks that jump, an old snapshot, a killed worker, steady calls."""

from __future__ import annotations

import asyncio
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import App
from procrastinate.core import Status
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.tasks import Task
from tests.missing import find_file, missing
from tests.worker.limited_processes import workers
from tests.worker.limited_program import MAX_WAIT
from tests.worker.limited_program import app as program
from tests.worker.running import Queue, until
from tests.worker.test_limits import LEFT, LONG, MOST_IN_A_WINDOW, NOTE_STARTS, run_to_the_end
from tests.worker.test_limits_at_size import LEDGER, MOST

_HOUR = 3600
LATE = 1.5
"""Seconds: the polling interval, and a busy machine."""
OF_A_LIMIT = 300 if LONG else 40


def jumping_clock(path: pathlib.Path) -> dict[str, str]:
    """Return the environment of a process whose wall clock is off by the seconds in a file, read at each look."""
    library = find_file("/usr/lib/*/faketime/libfaketime.so.1")
    if library is None:
        missing("libfaketime is not installed (Debian: apt install libfaketime)", "PROCRASTINATE_REQUIRE_FAKETIME")
    return {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(path),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(path: pathlib.Path, seconds: int) -> None:
    """Let the clock of the processes be off by some seconds."""
    path.write_text(f"{seconds:+d}s")


def check_that_it_jumps(path: pathlib.Path) -> None:
    """Check that the clock of a running process jumps, and let it be right."""
    set_clock(path, 0)
    command = [sys.executable, "-uc", "import time\nwhile input(): print(time.time())"]
    with subprocess.Popen(
        command, env={**os.environ, **jumping_clock(path)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for seconds in (0, _HOUR, -_HOUR, 0):
            set_clock(path, seconds)
            process.stdin.write("go on\n")
            process.stdin.flush()
            assert abs(float(process.stdout.readline()) - time.time() - seconds) < 60
        process.kill()


@pytest.mark.timeout(240)
async def test_limits_and_rates_hold_while_the_clocks_of_workers_jump_by_an_hour(
    queue: Queue, database_url: str, tmp_path: pathlib.Path
) -> None:
    """A job of the rate is deferred between two jumps, so that workers with each clock start some."""
    clock = tmp_path / "clock"
    check_that_it_jumps(clock)
    queue.sql(NOTE_STARTS.replace("NEW.status = 'doing')", "NEW.status = 'doing' AND NEW.task_name = 'rated')"))
    async with App(connector=database_url).open_async() as opened:
        with program.replace_connector(opened.connector) as deferring:
            await deferring.tasks["rated"].batch_defer_async(*({"number": one} for one in range(OF_A_LIMIT)))
            for name in ("per key", "in all"):
                await deferring.tasks[name].batch_defer_async(*({"number": one} for one in range(OF_A_LIMIT)))
        with workers(database_url, 2, environment=jumping_clock(clock)) as running:
            jumping = asyncio.create_task(_jump(queue, clock))
            await run_to_the_end(queue, running, kills=1, within=180)
            assert await jumping >= 2
    assert queue.sql("SELECT count(*) FROM noted") >= OF_A_LIMIT
    assert queue.sql(MOST_IN_A_WINDOW, window="0.4999 s") <= 8
    assert 20 < queue.sql(MOST_IN_A_WINDOW, window="3.9999 s") <= 40
    # A retry is due a moment after its run by the clock of the server, and not an hour later.
    off = "SELECT count(*) FROM procrastinate_events WHERE at NOT BETWEEN now() - interval '30 min' AND now()"
    assert queue.sql(off) == 0


async def _jump(queue: Queue, clock: pathlib.Path) -> int:
    """Let the clock jump after each further five starts, and return the number of jumps."""
    jumps = 0
    while queue.sql(LEFT):
        if queue.sql("SELECT count(*) FROM noted") >= 5 * (jumps + 1):
            jumps += 1
            set_clock(clock, (_HOUR, -_HOUR, 0)[jumps % 3])
        await asyncio.sleep(0.05)
    return jumps


@pytest.mark.timeout(240)
async def test_jobs_of_a_limit_start_and_hand_over_while_an_old_snapshot_is_open(
    queue: Queue, database_url: str, engine: sa.Engine
) -> None:
    """Vacuum cannot remove what jobs leave in the indexes, and each count of slots passes by it."""
    queue.sql(LEDGER)
    async with App(connector=database_url).open_async() as opened:
        with engine.connect() as old:
            old.execution_options(isolation_level="REPEATABLE READ")
            assert old.scalar(sa.text("SELECT count(*) FROM procrastinate_jobs")) == 0
            with program.replace_connector(opened.connector) as deferring:
                calls = [{"number": one} for one in range(10 * OF_A_LIMIT)]
                await deferring.tasks["per key"].batch_defer_async(*calls)
                await deferring.tasks["locked"].batch_defer_async(*calls[:OF_A_LIMIT])
            with workers(database_url, 2) as running:
                await run_to_the_end(queue, running, kills=1, within=200)
            assert old.scalar(sa.text("SELECT count(*) FROM procrastinate_jobs")) == 0
        ended = queue.sql("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'")
        assert ended == 11 * OF_A_LIMIT
        assert queue.sql(MOST) == 2
        assert all((one.held, one.in_line) == (0, 0) for one in await opened.limits.list_async())


async def _is_refused(task: Task[Any, Any]) -> bool:
    try:
        await task.defer_async()
    except AlreadyEnqueued:
        return True
    return False


@pytest.mark.timeout(120)
async def test_a_job_keeps_its_unique_key_when_its_worker_is_killed(queue: Queue, database_url: str) -> None:
    async with App(connector=database_url).open_async() as opened:
        with program.replace_connector(opened.connector) as deferring, workers(database_url, 1) as running:
            unique = deferring.tasks["unique"]
            job_id = await unique.defer_async()
            await until(lambda: queue.status(job_id) is Status.DOING)
            running.kill_one()
            refused = 0
            while await _is_refused(unique):
                refused += 1
                await asyncio.sleep(0.05)
    assert refused > 5
    assert queue.status(job_id) is Status.SUCCEEDED
    assert queue.sql("SELECT attempts FROM procrastinate_jobs WHERE id = :id", id=job_id) == 2


WAITED = """
SELECT array_agg(waited) FROM (
SELECT extract(epoch FROM min(at) FILTER (WHERE type = 'started') - min(at) FILTER (WHERE type = 'deferred'))::float
FROM procrastinate_events GROUP BY job_id
HAVING bool_or(type = 'started')
) AS jobs (waited)
"""


@pytest.mark.timeout(120)
async def test_a_debounced_job_runs_within_its_longest_wait_under_steady_calls(queue: Queue, database_url: str) -> None:
    """Each call comes before the job of the call before is due. Without a longest wait, no job would run."""
    longest = MAX_WAIT.total_seconds()
    loop = asyncio.get_running_loop()
    async with App(connector=database_url).open_async() as opened:
        with program.replace_connector(opened.connector) as deferring, workers(database_url, 1):
            await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_workers"))
            end, number = loop.time() + 5 * longest, 0
            while loop.time() < end:
                number += 1
                await deferring.tasks["debounced"].configure(schedule_in={"seconds": 1.5}).defer_async(number=number)
                await asyncio.sleep(0.1)
    waited = queue.sql(WAITED)
    print(f"{number} calls, and {len(waited)} runs after {waited} s")
    assert len(waited) >= 3
    assert all(longest - 0.5 <= seconds <= longest + LATE for seconds in waited)
