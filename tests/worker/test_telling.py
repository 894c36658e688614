"""Workers tell what they are and do with their heartbeat, and count runs by the minute."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.app import App
from procrastinate.core.inspection import load_overview
from procrastinate.core.statistics import BOUNDS, BUCKETS, Durations, Runs
from procrastinate.unique import Unique
from procrastinate.worker.services import unique_key_sweep
from procrastinate.worker.services.teller import hash_of
from tests.worker.running import Queue, Workers, WorkerThread, happens, until
from tests.worker.test_refused_rows import refuse

BEATS_OFTEN: dict[str, Any] = {"update_heartbeat_interval": 0.05, "stalled_worker_timeout": 30}


def told(queue: Queue) -> dict[str, Any]:
    """Return the row of the only worker."""
    return dict(queue.connection.execute(sa.text("SELECT * FROM procrastinate_workers")).one()._mapping)


def statistics(queue: Queue, seconds: int = 60) -> dict[tuple[str, str, str], sa.Row[Any]]:
    """Return the sums of the intervals of this length, by queue, task and outcome."""
    statement = sa.text(
        "SELECT queue_name, task_name, outcome, sum(count)::int AS count, sum(run_seconds) AS run_seconds, "
        "sum(wait_count)::int AS wait_count, sum(wait_seconds) AS wait_seconds, "
        "(SELECT sum(n) FROM procrastinate_statistics s, unnest(s.run_histogram) n WHERE s.seconds = :seconds)::int "
        "AS in_histograms FROM procrastinate_statistics WHERE seconds = :seconds GROUP BY 1, 2, 3"
    )
    rows = queue.connection.execute(statement, {"seconds": seconds})
    return {(row.queue_name, row.task_name, row.outcome): row for row in rows}


async def test_a_worker_tells_what_it_is(app: App, workers: Workers, queue: Queue) -> None:
    app.task(name="some task")(lambda: None)
    await workers.listening(queue, name="snoopy", queues=["a", 'b"c'], concurrency=7)
    row = told(queue)
    assert row["name"] == "snoopy"
    assert (row["hostname"], row["pid"]) == (platform.node(), os.getpid())
    assert row["queues"] == ["a", 'b"c']
    assert (row["concurrency"], row["listens"]) == (7, True)
    assert row["started_at"] is not None
    await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_task_lists"))
    assert row["task_list"] == hash_of(app.tasks)
    tasks = queue.sql("SELECT tasks FROM procrastinate_task_lists WHERE hash = :hash", hash=row["task_list"])
    assert "some task" in tasks


async def test_a_worker_of_all_queues_tells_an_empty_list(workers: Workers, queue: Queue) -> None:
    await workers.listening(queue)
    assert told(queue)["queues"] == []


async def test_a_worker_tells_which_jobs_run(app: App, workers: Workers, queue: Queue) -> None:
    may_end = asyncio.Event()

    @app.task(name="long")
    async def long() -> None:
        await may_end.wait()

    await workers.listening(queue, concurrency=2, **BEATS_OFTEN)
    job_id = await long.defer_async()
    await until(lambda: told(queue)["running_ids"] == [job_id])
    assert (told(queue)["running"], told(queue)["state"]) == (1, "running")
    may_end.set()
    await until(lambda: told(queue)["running"] == 0)


async def test_a_worker_that_stops_tells_that_it_drains(app: App, workers: Workers, queue: Queue) -> None:
    may_end, started = asyncio.Event(), asyncio.Event()

    @app.task(name="long")
    async def long() -> None:
        started.set()
        await may_end.wait()

    running = await workers.listening(queue, **BEATS_OFTEN)
    await long.defer_async()
    await happens(started)
    running.worker.stop()
    await until(lambda: told(queue)["state"] == "draining")
    may_end.set()


async def test_the_beat_of_a_blocked_event_loop_grows_old_while_the_heartbeat_goes_on(
    app: App, queue: Queue, database_url: str
) -> None:
    started, may_end = asyncio.Event(), False

    @app.task(name="block")
    async def block() -> None:
        while not may_end:
            time.sleep(0.01)  # noqa: ASYNC251 - it blocks on purpose

    thread = WorkerThread(app, database_url, install_signal_handlers=False, **BEATS_OFTEN)
    thread.start()
    await block.defer_async()
    lag = "SELECT bool_or(last_heartbeat - loop_beat_at > interval '1.5 seconds') FROM procrastinate_workers"
    await until(lambda: queue.sql(lag))
    assert [one.loop_blocked_for is None for one in (await app.inspect.workers_async()).workers] == [False]
    assert queue.sql("SELECT bool_and(last_heartbeat > now() - interval '5 seconds') FROM procrastinate_workers")
    may_end = True
    await until(lambda: not queue.sql(lag))
    assert not started.is_set()
    await thread.stopped()


async def test_a_worker_tells_that_its_fetches_fail(app: App, workers: Workers, queue: Queue) -> None:
    await workers.listening(queue, fetch_job_polling_interval=0.05, **BEATS_OFTEN)
    await until(lambda: told(queue)["last_fetch_at"])
    await queue.ddl("ALTER TABLE procrastinate_jobs RENAME COLUMN priority TO renamed")
    await until(lambda: told(queue)["last_error_code"] == "42703")
    assert told(queue)["last_error_at"] is not None
    await queue.ddl("ALTER TABLE procrastinate_jobs RENAME COLUMN renamed TO priority")


async def test_runs_are_counted_by_the_minute(app: App, workers: Workers, queue: Queue) -> None:
    @app.task(name="task", queue="q")
    async def task(fails: bool) -> None:
        if fails:
            raise ValueError

    await task.batch_defer_async({"fails": False}, {"fails": False}, {"fails": True})
    await workers.listening(queue, concurrency=3, **BEATS_OFTEN)
    await until(lambda: sum(row.count for row in statistics(queue).values()) == 3)
    rows = statistics(queue)
    assert {key: row.count for key, row in rows.items()} == {("q", "task", "succeeded"): 2, ("q", "task", "failed"): 1}
    assert rows["q", "task", "succeeded"].run_seconds > 0
    assert rows["q", "task", "succeeded"].wait_count == 2
    assert rows["q", "task", "succeeded"].wait_seconds > 0
    assert rows["q", "task", "succeeded"].in_histograms == 3


async def test_the_counts_of_all_time_are_kept_apart(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task", queue="q")(lambda: None)
    await task.defer_async()
    await workers.listening(queue, **BEATS_OFTEN)
    await until(lambda: statistics(queue, seconds=0))
    assert statistics(queue, seconds=0)["q", "task", "succeeded"].count == 1


async def test_a_worker_that_ends_before_its_next_heartbeat_writes_its_last_statistics(
    app: App, workers: Workers, queue: Queue
) -> None:
    await app.task(name="task", queue="q")(lambda: None).batch_defer_async({}, {})
    await workers.run()
    assert {key: row.count for key, row in statistics(queue).items()} == {("q", "task", "succeeded"): 2}


async def test_a_worker_without_jobs_writes_no_statistics(workers: Workers, queue: Queue) -> None:
    await workers.listening(queue, **BEATS_OFTEN)
    first = told(queue)["last_heartbeat"]
    await until(lambda: told(queue)["last_heartbeat"] > first)
    assert statistics(queue) == {}


async def test_a_worker_whose_statistics_are_refused_goes_on(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    task = app.task(name="task")(lambda: None)
    await workers.listening(queue, **BEATS_OFTEN)
    await queue.ddl("ALTER TABLE procrastinate_statistics RENAME TO elsewhere")
    with caplog.at_level(logging.WARNING):
        await queue.succeeded(await task.defer_async())
        await until(lambda: any(vars(one).get("action") == "record_statistics_error" for one in caplog.records))
    await queue.ddl("ALTER TABLE elsewhere RENAME TO procrastinate_statistics")
    await until(lambda: statistics(queue))


def test_a_row_at_the_end_of_its_types_keeps_no_other_from_being_written(connection: sa.Connection) -> None:
    """Plain SQL may have stored it. The ends of all columns are tried, and histograms that are too short."""
    queue = Queue(connection)
    for seconds, unit, age, rows in ((60, "minute", "0 s", 1), (0, "minute", "0 s", 1), (60, "hour", "12 h", 2)):
        for task in ("t", "u"):
            queue.sql(
                "INSERT INTO procrastinate_statistics (seconds, at, queue_name, task_name, outcome, count, "
                "run_seconds, run_histogram, wait_count, wait_seconds, wait_histogram) SELECT :seconds, "
                "CASE WHEN :seconds = 0 THEN to_timestamp(0) ELSE date_trunc(:unit, now() - cast(:age AS interval)) "
                "+ n * interval '1 minute' END, 'q', :task, 'succeeded', 9223372036854775807, 1.7e308, "
                "array_fill(9223372036854775807, array[:buckets]), 9223372036854775807, 1.7e308, '{}' "
                "FROM generate_series(0, :rows - 1) n",
                **{"seconds": seconds, "unit": unit, "age": age, "rows": rows, "task": task, "buckets": BUCKETS},
            )
    run = Durations()
    run.add(0.001)
    runs = [Runs(queue_name="q", task_name=task, outcome="succeeded", run=run) for task in ("t", "other")]
    core.record_runs(connection, runs)
    assert queue.sql("SELECT count FROM procrastinate_statistics WHERE task_name = 'other' AND seconds = 60") == 1
    core.roll_up_statistics(connection)
    count = "SELECT count(*) FROM procrastinate_statistics WHERE seconds = 600 AND count > 1e18 AND run_seconds > 1e289"
    assert queue.sql(count) == 2
    assert sum(minute.succeeded for minute in load_overview(connection).minutes) > 1


def add_minutes(queue: Queue, age: str, count: int) -> None:
    """Insert as many rows of a minute each, from an age on."""
    queue.sql(
        "INSERT INTO procrastinate_statistics (seconds, at, queue_name, task_name, outcome, count, run_seconds, "
        "run_histogram, wait_histogram) "
        "SELECT 60, date_trunc('hour', now() - cast(:age AS interval)) + n * interval '1 minute', 'q', 't', "
        "'succeeded', 1, 0.5, array_fill(1::bigint, array[:buckets]), array_fill(0::bigint, array[:buckets]) "
        "FROM generate_series(0, :count - 1) n",
        age=age,
        count=count,
        buckets=BUCKETS,
    )


def test_old_minutes_are_added_up(connection: sa.Connection) -> None:
    queue = Queue(connection)
    add_minutes(queue, "12 hours", 20)
    add_minutes(queue, "1 hour", 2)
    core.roll_up_statistics(connection)
    rows = connection.execute(
        sa.text("SELECT seconds, count, run_seconds, run_histogram[1] FROM procrastinate_statistics ORDER BY 1, at")
    )
    assert [tuple(row) for row in rows] == [(60, 1, 0.5, 1), (60, 1, 0.5, 1), (600, 10, 5.0, 10), (600, 10, 5.0, 10)]


def test_the_oldest_statistics_are_deleted(connection: sa.Connection) -> None:
    queue = Queue(connection)
    add_minutes(queue, "100 days", 1)
    queue.sql("UPDATE procrastinate_statistics SET seconds = 3600")
    add_minutes(queue, "100 days", 1)
    queue.sql("UPDATE procrastinate_statistics SET seconds = 0 WHERE seconds = 60")
    core.roll_up_statistics(connection)
    assert queue.sql("SELECT string_agg(seconds::text, ',') FROM procrastinate_statistics") == "0"


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, 0), (0.005, 0), (0.0051, 1), (3600.0, 15), (3601.0, 16)])
def test_a_duration_falls_in_the_bucket_whose_bound_it_does_not_exceed(seconds: float, bucket: int) -> None:
    durations = core.Durations()
    durations.add(seconds)
    assert durations.buckets.index(1) == bucket
    assert len(durations.buckets) == len(BOUNDS) + 1


async def test_a_worker_deletes_the_keys_of_deleted_jobs(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unique_key_sweep, "_SWEEP_INTERVAL", 0.0)
    task = app.task(name="task", unique=Unique(until="end"))(lambda number: None)
    await workers.listening(queue, **BEATS_OFTEN, delete_jobs="always")
    kept = await app.configure_task("not known", unique=Unique(by="kept"), queue="elsewhere").defer_async()
    await task.defer_async(number=1)
    await until(lambda: queue.sql("SELECT array_agg(job_id) FROM procrastinate_uniques") == [kept])


async def test_refused_statistics_of_a_task_keep_no_others_from_being_written(
    app: App, workers: Workers, queue: Queue
) -> None:
    refuse(queue, event="INSERT", table="procrastinate_statistics", condition="NEW.task_name = 'odd'")
    ids = [await app.task(name=name, queue="q")(lambda: None).defer_async() for name in ("a", "odd", "z")]
    await workers.listening(queue, **BEATS_OFTEN)
    await queue.succeeded(*ids)
    await until(lambda: {task for _, task, _ in statistics(queue)} == {"a", "z"})


async def test_refused_statistics_keep_no_unique_key(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(unique_key_sweep, "_SWEEP_INTERVAL", 0.0)
    refuse(queue, event="INSERT", table="procrastinate_statistics")
    task = app.task(name="task", unique=Unique(until="end"))(lambda number: None)
    with caplog.at_level(logging.WARNING):
        await workers.listening(queue, **BEATS_OFTEN, delete_jobs="always")
        await task.defer_async(number=1)
        await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_jobs") == 0)
        await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_uniques") == 0)
        await until(lambda: "Statistics could not be written: " in caplog.text)


@pytest.mark.parametrize("table", ["statistics", "task_lists", "uniques"])
async def test_a_table_that_an_open_transaction_locks_holds_up_no_heartbeat(
    app: App,
    workers: Workers,
    queue: Queue,
    other: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    table: str,
) -> None:
    """Others would take the worker for dead, and run its jobs a second time."""
    monkeypatch.setattr(unique_key_sweep, "_SWEEP_INTERVAL", 0.0)
    other.execute(f"LOCK TABLE procrastinate_{table}")
    task = app.task(name="task")(lambda: None)
    await workers.listening(queue, **BEATS_OFTEN)
    await queue.succeeded(await task.defer_async())
    since = told(queue)["last_heartbeat"]
    later = "SELECT max(last_heartbeat) > :since + interval '3 seconds' FROM procrastinate_workers"
    await until(lambda: queue.sql(later, since=since))
