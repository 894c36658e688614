"""A second signal, or a second cancellation, ends a worker at once."""

from __future__ import annotations

import asyncio
import pathlib
import signal
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate.app import App
from procrastinate.core import Readiness, Status
from procrastinate.worker.services import heartbeat
from tests.worker.program_process import Process, StartProcess, ended, says
from tests.worker.running import Queue, Workers, happens, soon, until

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
NO_REPEAT = 0.6
"""Seconds after which the same signal is another one."""


async def signal_twice(process: Process, number: signal.Signals) -> None:
    """Stop a worker that runs a job, then end it."""
    await says(process, "Starting job")
    process.send_signal(number)
    logged = await says(process, "Stopping worker: 1 job is running")
    assert "waits for them without a limit. A second signal ends it at once" in logged
    await asyncio.sleep(NO_REPEAT)
    process.send_signal(number)


@SIGNALS
async def test_a_second_signal_cancels_an_async_job_which_waits_for_the_next_worker(
    app: App, start: StartProcess, queue: Queue, number: signal.Signals
) -> None:
    job_id = await app.configure_task("wait_until_cancelled", queue="program").defer_async()
    process = await start()
    await signal_twice(process, number)
    code, logged = await ended(process)
    assert code == -number, logged
    assert "Ending worker at once: 1 job is cancelled" in logged
    assert "was cancelled because its worker ends at once: it runs again" in logged
    assert "status: Error" not in logged
    assert (queue.status(job_id), queue.row(job_id)["attempts"]) == (Status.TODO, 1)
    assert queue.sql("SELECT message FROM procrastinate_errors") == "The worker was ended at once while the job ran"
    assert queue.sql("SELECT count(*) FROM procrastinate_workers") == 0
    code, logged = await ended(await start(wait=False))
    assert (code, queue.status(job_id)) == (0, Status.SUCCEEDED), logged


@SIGNALS
async def test_a_second_signal_leaves_a_sync_job_to_a_worker_that_soon_takes_it(
    app: App, start: StartProcess, queue: Queue, tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    file = tmp_path / "file"
    job_id = await app.configure_task("wait_for_file", queue="program").defer_async(path=str(file))
    process = await start()
    await signal_twice(process, number)
    code, logged = await ended(process)
    assert code == -number, logged
    assert "goes on in its thread, which cannot be stopped" in logged
    assert "status: Error" not in logged
    assert queue.status(job_id) is Status.DOING
    assert queue.sql("SELECT stalled_timeout FROM procrastinate_workers") == heartbeat.LEAVING.stalled_timeout
    file.touch()
    code, logged = await ended(await start(wait=False))
    assert (code, queue.status(job_id)) == (0, Status.SUCCEEDED), logged
    assert "holds jobs and has not been heard of" in logged


async def test_a_second_signal_ends_a_process_whose_event_loop_is_blocked(
    app: App, start: StartProcess, queue: Queue
) -> None:
    await app.configure_task("sleep_in_loop", queue="program").defer_async()
    process = await start()
    await says(process, "Starting job")
    process.send_signal(signal.SIGTERM)
    await asyncio.sleep(NO_REPEAT)
    process.send_signal(signal.SIGTERM)
    code, logged = await ended(process)
    assert code == -signal.SIGTERM, logged


@pytest.mark.parametrize("task", ["stay_in_thread", "refuse_to_end"])
async def test_a_second_signal_ends_a_process_whatever_its_async_job_does(
    app: App, start: StartProcess, queue: Queue, task: str
) -> None:
    await app.configure_task(task, queue="program").defer_async()
    process = await start()
    await signal_twice(process, signal.SIGTERM)
    code, logged = await ended(process)
    assert code == -signal.SIGTERM, logged


@SIGNALS
async def test_a_signal_that_comes_twice_at_once_counts_once(
    app: App, start: StartProcess, queue: Queue, tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    file = tmp_path / "file"
    job_id = await app.configure_task("wait_for_file", queue="program").defer_async(path=str(file))
    process = await start()
    await says(process, "Starting job")
    process.send_signal(number)
    process.send_signal(number)
    await says(process, "Stopping worker: 1 job is running")
    process.send_signal(number)
    file.touch()
    code, logged = await ended(process)
    assert (code, queue.status(job_id)) == (0, Status.SUCCEEDED), logged


# By cancellation, in this process


async def test_a_job_in_a_thread_is_not_taken_while_the_thread_runs(app: App, workers: Workers, queue: Queue) -> None:
    """The process goes on after the end of the worker, and so does the thread."""
    started, release = threading.Event(), threading.Event()
    runs: list[bool] = []

    @app.task
    def task() -> None:
        runs.append(release.is_set())
        started.set()
        assert release.wait(30)

    job_id = await task.defer_async()
    lively: dict[str, Any] = {"update_heartbeat_interval": 0.1, "stalled_worker_timeout": 1.0}
    running = workers.start(**lively)
    await happens(started)
    running.task.cancel()
    await asyncio.sleep(0.01)
    running.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(running.task)
    assert queue.status(job_id) is Status.DOING
    since = queue.sql("SELECT now()")
    workers.start(**lively)
    beats = "SELECT last_heartbeat > :since + interval '2 s' FROM procrastinate_workers WHERE id = :id"
    await until(lambda: queue.sql(beats, since=since, id=running.worker.worker_id))
    assert runs == [False]
    release.set()
    await queue.succeeded(job_id)
    assert runs == [False, True]


async def test_a_job_that_is_cancelled_at_once_is_not_logged_as_an_error(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    started = asyncio.Event()

    @app.task
    async def task() -> None:
        started.set()
        await asyncio.Event().wait()

    job_id = await task.defer_async()
    running = workers.start()
    await happens(started)
    for _ in range(2):
        running.task.cancel()
        await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await soon(running.task)
    assert queue.status(job_id) is Status.TODO
    actions = {vars(record).get("action") for record in caplog.records}
    assert "job_cut_short" in actions
    assert not actions & {"job_error", "job_error_retry"}


async def test_a_job_that_is_cut_before_its_task_is_called_keeps_its_lock(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    task = app.task(name="task", lock="one")(lambda: None)
    workflow = app.workflow("waits for an answer")
    workflow.add(task)
    await workflow.defer_async()
    await task.defer_async()
    await app.job_manager.promote_jobs()
    with engine.connect() as user:
        user.execute(sa.text("LOCK TABLE procrastinate_workflows IN ACCESS EXCLUSIVE MODE"))
        running = workers.start()
        await until(lambda: queue.status(1) is Status.DOING)
        for _ in range(2):
            running.task.cancel()
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await soon(running.task)
        user.rollback()
    readiness = queue.sql("SELECT array_agg(readiness ORDER BY id) FROM procrastinate_jobs WHERE status = 'todo'")
    assert readiness == [Readiness.PROMOTED, Readiness.PARKED]
