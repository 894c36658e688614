"""Workers as they are run: in a process, by signals; and in a thread, without."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import threading
from typing import Any

import pytest

from procrastinate.app import App
from procrastinate.core import Status
from tests.worker.program_process import StartProcess, ended, says
from tests.worker.running import Queue, Workers, connector_for, happens, until


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    """What the jobs of the program wait for."""
    return tmp_path / "file"


def create(file: pathlib.Path) -> None:
    """What they wait for has come."""
    file.touch()


async def test_a_program_runs_jobs_and_returns(app: App, start: StartProcess, queue: Queue, file: pathlib.Path) -> None:
    create(file)
    job_id = await app.configure_task("wait_for_file", queue="program").defer_async(path=str(file))
    code, logged = await ended(await start(wait=False))
    assert (code, queue.status(job_id)) == (0, Status.SUCCEEDED), logged
    assert "Traceback" not in logged
    assert "Stopped worker on queues program" in logged


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_gracefully(
    app: App, start: StartProcess, queue: Queue, file: pathlib.Path, number: signal.Signals
) -> None:
    first, second = await app.configure_task("wait_for_file", queue="program").batch_defer_async(
        {"path": str(file)}, {"path": str(file)}
    )
    process = await start()
    await says(process, "Starting job")
    process.send_signal(number)
    await says(process, "Stopping worker: 1 job is running")
    create(file)
    code, logged = await ended(process)
    assert code == 0, logged
    assert "Traceback" not in logged
    assert (queue.status(first), queue.status(second)) == (Status.SUCCEEDED, Status.TODO)
    assert queue.sql("SELECT count(*) FROM procrastinate_workers") == 0


async def test_a_process_that_is_killed_leaves_its_job_to_another(
    app: App, start: StartProcess, queue: Queue, workers: Workers, file: pathlib.Path
) -> None:
    ran = asyncio.Event()

    @app.task(name="wait_for_file")
    async def instead(path: str) -> None:
        ran.set()

    job_id = await app.configure_task("wait_for_file", queue="program").defer_async(path=str(file))
    process = await start(update_heartbeat_interval=0.1, stalled_worker_timeout=1)
    await queue.reaches(job_id, Status.DOING)
    process.kill()
    await ended(process)
    workers.start(update_heartbeat_interval=0.1, stalled_worker_timeout=1)
    await queue.succeeded(job_id)
    assert ran.is_set()


async def test_past_the_graceful_timeout_a_job_is_left_for_the_next_worker(
    app: App, start: StartProcess, queue: Queue
) -> None:
    job_id = await app.configure_task("wait_until_cancelled", queue="program").defer_async()
    process = await start(shutdown_graceful_timeout=0.05)
    await says(process, "Starting job")
    process.send_signal(signal.SIGTERM)
    code, logged = await ended(process)
    assert (code, queue.status(job_id)) == (0, Status.TODO), logged


# In this process


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


async def test_signal_handlers_are_there_while_it_runs_and_then_as_before(workers: Workers) -> None:
    before = handlers()
    running = workers.start(install_signal_handlers=True)
    await until(lambda: handlers() != before)
    os.kill(os.getpid(), signal.SIGTERM)
    await running.ended()
    assert handlers() == before


async def test_one_signal_stops_all_workers_of_a_process(workers: Workers) -> None:
    """Each has handlers of its own otherwise, and the one that came last has them all."""
    before = handlers()
    first = workers.start(install_signal_handlers=True)
    second = workers.start(install_signal_handlers=True)
    await until(lambda: first.worker.worker_id is not None and second.worker.worker_id is not None)
    os.kill(os.getpid(), signal.SIGTERM)
    await first.ended()
    await second.ended()
    assert handlers() == before


async def test_signal_handlers_are_as_before_when_the_last_of_several_workers_has_ended(workers: Workers) -> None:
    """In the order in which they came, too."""
    before = handlers()
    first = workers.start(install_signal_handlers=True)
    second = workers.start(install_signal_handlers=True)
    await until(lambda: first.worker.worker_id is not None and second.worker.worker_id is not None)
    await first.stopped()
    assert handlers() != before
    await second.stopped()
    assert handlers() == before


async def test_signal_handlers_are_as_before_when_the_last_worker_came_after_a_signal(
    app: App, workers: Workers
) -> None:
    before = handlers()
    started, may_end = threading.Event(), threading.Event()

    @app.task
    def task() -> None:
        started.set()
        assert may_end.wait(30)

    await task.defer_async()
    first = workers.start(install_signal_handlers=True)
    await happens(started)
    os.kill(os.getpid(), signal.SIGTERM)
    second = workers.start(install_signal_handlers=True)
    await until(lambda: second.worker.worker_id is not None)
    may_end.set()
    await first.ended()
    await second.stopped()
    assert handlers() == before


async def test_without_signal_handlers_it_leaves_them_alone(workers: Workers, queue: Queue) -> None:
    before = handlers()
    await workers.listening(queue, install_signal_handlers=False)
    assert handlers() == before


async def test_a_worker_runs_in_a_thread_of_a_program(
    app: App, queue: Queue, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="procrastinate")
    before = handlers()
    app.task(name="task")(lambda: None)
    job_id = await app.configure_task("task").defer_async()
    other = app.with_connector(connector_for(database_url))
    thread = threading.Thread(target=other.run_worker, kwargs={"wait": False})
    thread.start()
    await asyncio.to_thread(thread.join, 10)
    assert queue.status(job_id) is Status.SUCCEEDED
    assert handlers() == before
    assert "skip_signal_handlers" in [vars(record).get("action") for record in caplog.records]


def test_run_worker_runs_in_a_program_without_an_event_loop(database_url: str, queue: Queue) -> None:
    app = App(connector=connector_for(database_url))
    task = app.task(name="task")(lambda: None)
    with app.open():
        job_id = task.defer()
    app.run_worker(wait=False)
    assert queue.status(job_id) is Status.SUCCEEDED
