"""Workers and writers of 3.10 stay at work while the tables are upgraded, and workers of this release join."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

import procrastinate
from procrastinate.worker import Worker
from tests.moving.release import PROGRAMS, environment_of, running_3x
from tests.moving.rows import execute

ROUNDS = int(os.environ.get("PROCRASTINATE_ROLLING_ROUNDS", "1"))
"""As a stress test, 20: ``PROCRASTINATE_ROLLING_ROUNDS=20 pytest tests/moving/test_rolling.py``."""

_NOTES = """
CREATE TABLE notes (
    id bigint GENERATED ALWAYS AS IDENTITY, job_id bigint, what text, group_name text
)
"""
_OVERLAPS = """
SELECT count(*) FROM (
    SELECT what, lag(what) OVER (PARTITION BY group_name ORDER BY id) AS before, job_id,
        lag(job_id) OVER (PARTITION BY group_name ORDER BY id) AS job_before
    FROM notes WHERE group_name IS NOT NULL
) AS note
WHERE (what = 'start' AND before = 'start') OR (what = 'end' AND job_before <> job_id)
"""


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + 50
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.05)


def count(url: str, where: str) -> int:
    """The number of jobs of which something holds."""
    ((number,),) = execute(url, f"SELECT count(*) FROM procrastinate_jobs WHERE {where}")  # noqa: S608
    assert isinstance(number, int)
    return number


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_busy_processes_of_3x_go_on_through_all_of_it(url_of_3x: str, round_: int) -> None:
    """No worker of 3.x ends, no job is lost or runs twice, and no two of a lock overlap."""
    execute(url_of_3x, _NOTES)
    worker = ("-m", "procrastinate", "--app=plain_app.app", "worker", "--concurrency=2")
    with (
        running_3x(url_of_3x, *worker) as first,
        running_3x(url_of_3x, *worker) as second,
        running_3x(url_of_3x, "writes.py") as writer,
    ):
        wait_until(lambda: count(url_of_3x, "status = 'succeeded'") > 20)
        app = procrastinate.App(connector=url_of_3x)
        with app.open():
            app.schema_manager.apply_schema()
        ours = subprocess.Popen(
            [sys.executable, *worker], env=environment_of(url_of_3x), cwd=PROGRAMS, stderr=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: count(url_of_3x, "worker_id < 0 AND status = 'succeeded'") > 10)
            assert (first.poll(), second.poll(), writer.poll()) == (None, None, None)
            first.terminate()
            assert first.wait(timeout=30) == 0
            writer.terminate()
            assert writer.wait(timeout=30) == 0
            wait_until(lambda: count(url_of_3x, "status IN ('todo', 'doing')") == 0)
            assert second.poll() is None
            second.terminate()
            assert second.wait(timeout=30) == 0
        finally:
            ours.terminate()
            ours.wait(timeout=30)
    assert count(url_of_3x, "status <> 'succeeded' OR attempts <> 1") == 0
    runs = "SELECT job_id FROM notes WHERE what = 'start' GROUP BY job_id HAVING count(*) <> 1"
    assert execute(url_of_3x, runs) == []
    assert execute(url_of_3x, "SELECT count(DISTINCT job_id) FROM notes") == [(count(url_of_3x, "true"),)]
    assert execute(url_of_3x, _OVERLAPS) == [(0,)]
    events = (
        "SELECT job_id FROM procrastinate_events GROUP BY job_id "
        "HAVING array_agg(type::text ORDER BY id) <> ARRAY['deferred', 'started', 'succeeded']"
    )
    assert execute(url_of_3x, events) == []


async def test_a_job_of_a_worker_of_3x_that_drains_runs_once(url_of_3x: str) -> None:
    """It sends no heartbeat in that time, for longer than workers of this release may be silent. One of them is at work
    all the time: a worker that is new takes no other for dead.
    """
    execute(url_of_3x, _NOTES)
    app = procrastinate.App(connector=url_of_3x)
    with app.open():
        app.schema_manager.apply_schema()

    @app.task(name="notes")
    def runs_again(**arguments: object) -> None:
        execute(url_of_3x, "INSERT INTO notes (what) VALUES ('start again')")

    worker = ("-m", "procrastinate", "--app=plain_app.app", "worker")
    insert = "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('default', 'notes', %s)"
    execute(url_of_3x, insert, '{"seconds": 4}')
    options = {"update_heartbeat_interval": 0.2, "stalled_worker_timeout": 0.5, "install_signal_handlers": False}
    with running_3x(url_of_3x, *worker) as draining:
        wait_until(lambda: execute(url_of_3x, "SELECT count(*) FROM notes") == [(1,)])
        draining.terminate()
        ours = Worker(app, **options)
        running = asyncio.create_task(ours.run())
        assert await asyncio.to_thread(draining.wait) == 0
        ours.stop()
        await running
    await app.run_worker_async(wait=False, **options)
    assert execute(url_of_3x, "SELECT what FROM notes ORDER BY id") == [("start",), ("end",)]
    assert execute(url_of_3x, "SELECT status::text, attempts FROM procrastinate_jobs") == [("succeeded", 1)]
