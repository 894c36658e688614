"""Strangers: roles that may send notifications, or write some table, and what they can make a worker do."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.core.channels import ANY_QUEUE_CHANNEL, FINISHED_CHANNEL
from procrastinate.manager import JobManager
from tests.worker.running import Queue, Workers, happens, until
from tests.worker.test_stalled import LIVELY, fetched_by_a_worker_that_died

PAYLOADS = [
    "",
    "x",
    "null",
    "true",
    "1",
    '"text"',
    "[]",
    "{}",
    "[" * 7_000,
    '{"type": "abort_job_requested"}',
    '{"type": "job_inserted", "job_id": null}',
    '{"type": "job_inserted", "job_id": true}',
    '{"type": "job_inserted", "job_id": 1.0}',
    '{"type": "job_inserted", "job_id": 1e999}',
    '{"type": "job_inserted", "job_id": -1}',
    '{"type": "job_inserted", "job_id": 99999999999999999999}',
    '{"type": "job_inserted", "job_id": ' + "9" * 6_000 + "}",
    '{"type": ["abort_job_requested"], "job_id": 1}',
    '{"type": "abort_job_requested", "job_id": {"a": 1}}',
    "\x1b[2K\nERROR:root:forged \u202e",
]


def notify(queue: Queue, channel: str, payloads: list[str]) -> None:
    statement = sa.text("SELECT count(pg_notify(:channel, payload)) FROM unnest(CAST(:payloads AS text[])) AS payload")
    queue.connection.execute(statement, {"channel": channel, "payloads": payloads})


async def test_notifications_of_any_form_leave_a_worker_at_work(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """They are logged once, and what comes behind them is heard."""
    caplog.set_level(logging.WARNING, logger="procrastinate")
    await workers.listening(queue)
    for _ in range(5):
        notify(queue, ANY_QUEUE_CHANNEL, PAYLOADS)
    await queue.succeeded(await app.task(name="task")(lambda: None).defer_async())
    actions = [vars(record)["action"] for record in caplog.records if record.name.startswith("procrastinate")]
    assert set(actions) <= {"notification_malformed"}
    assert len(actions) <= 1


async def test_a_forged_request_aborts_no_job(app: App, workers: Workers, queue: Queue) -> None:
    """The worker goes on with the next job, so it has heard the requests."""
    started, go_on = asyncio.Event(), asyncio.Event()

    @app.task
    async def task() -> None:
        started.set()
        await go_on.wait()

    await workers.listening(queue, concurrency=2)
    job_id = await task.defer_async()
    await happens(started)
    for _ in range(20):
        notify(queue, ANY_QUEUE_CHANNEL, [f'{{"type": "abort_job_requested", "job_id": {job_id}}}'])
    await queue.succeeded(await app.task(name="quick")(lambda: None).defer_async())
    go_on.set()
    await queue.succeeded(job_id)


async def test_a_flood_of_notifications_has_a_worker_ask_little_more(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    fetch_jobs = JobManager.fetch_jobs

    async def counted(manager: JobManager, *args: Any, **options: Any) -> Any:
        asked.append(1)
        return await fetch_jobs(manager, *args, **options)

    monkeypatch.setattr(JobManager, "fetch_jobs", counted)
    await workers.listening(queue)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for start in range(0, 20_000, 1_000):
        payloads = [f'{{"type": "job_inserted", "job_id": {start + number + 1}}}' for number in range(1_000)]
        await asyncio.to_thread(notify, queue, ANY_QUEUE_CHANNEL, payloads)
    await queue.succeeded(await app.task(name="task")(lambda: None).defer_async())
    assert len(asked) <= 100 + 60 * (loop.time() - began)


async def test_rings_in_vain_have_a_wait_ask_little_more(
    app: App, queue: Queue, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    get_progress = core.get_progress

    def counted(connection: sa.Connection, job_id: int) -> Any:
        asked.append(1)
        return get_progress(connection, job_id)

    monkeypatch.setattr(core, "get_progress", counted)
    job_id = await app.task(name="task", store_result=True)(lambda: None).defer_async()
    waiting = asyncio.create_task(app.job_manager.wait_async(job_id, timeout=60))
    await until(lambda: queue.is_listening())
    loop = asyncio.get_running_loop()
    began, before = loop.time(), len(asked)
    for _ in range(500):
        await asyncio.to_thread(notify, queue, FINISHED_CHANNEL, [f'{{"job_ids": [{job_id}]}}'])
    assert len(asked) - before <= 15 + 4 * (loop.time() - began)
    await workers.run()
    await waiting
    assert queue.status(job_id) is Status.SUCCEEDED


@pytest.mark.parametrize(
    "row",
    [
        "heartbeat_interval = 1.7e308, stalled_timeout = 1.7e308",
        "heartbeat_interval = 'NaN', stalled_timeout = 'NaN'",
        "heartbeat_interval = -1, stalled_timeout = '-infinity'",
        "last_heartbeat = 'infinity'",
        "last_heartbeat = '294276-12-31'",
        "last_heartbeat = '-infinity', called_for = '{NULL}'",
        "called_for = '{{a,b},{c,NULL}}'",
        "called_for = array[repeat('x', 1000000)]",
    ],
)
async def test_odd_rows_of_workers_keep_no_job_from_being_rescued(
    app: App, workers: Workers, queue: Queue, row: str
) -> None:
    task = app.task(name="task")(lambda: None)
    job_id = await task.defer_async()
    await fetched_by_a_worker_that_died(app, queue, registered=True)
    queue.sql("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id")
    queue.sql(f"UPDATE procrastinate_workers SET {row} WHERE id = (SELECT max(id) FROM procrastinate_workers)")  # noqa: S608
    workers.start(**LIVELY)
    await queue.succeeded(job_id, await task.defer_async())


async def test_odd_rows_of_ticks_and_history_stop_no_worker(app: App, workers: Workers, queue: Queue) -> None:
    """Ticks of the largest and smallest times, of all tasks, and history of any time and of no job."""
    task = app.task(name="tick")(lambda timestamp: None)
    app.periodic(cron="* * * * * *")(task)
    for time in (-(2**63), -1, 0, 2**63 - 1, None):
        queue.sql(
            "INSERT INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp, job_id) "
            "VALUES ('tick', '', :time, :job_id)",
            time=time,
            job_id=time,
        )
    plain = app.task(name="plain", store_result=True)(lambda: None)
    job_id = await plain.defer_async()
    for at in ("infinity", "-infinity", "294276-12-31", "4713-01-01 BC"):
        queue.sql(
            "INSERT INTO procrastinate_events (job_id, type, at) "
            "SELECT id, word, CAST(:at AS timestamptz) FROM unnest(array[-1, 0, 9223372036854775807, :job_id]) AS id, "
            "unnest(enum_range(NULL::procrastinate_job_event_type)) AS word",
            at=at,
            job_id=job_id,
        )
    workers.start()
    await queue.succeeded(job_id)
    await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'tick'") >= 2)
    assert (await app.job_manager.get_result_async(job_id)).status is Status.SUCCEEDED
