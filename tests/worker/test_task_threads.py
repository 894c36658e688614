"""The threads in which a worker runs sync tasks."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from typing import Any

import pytest

from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.worker.run import job_run, threads
from procrastinate.worker.run.threads import TaskThreads, _DaemonThreads
from tests.worker.running import Queue, Workers, until

_EXIT_WITH_A_BUSY_THREAD = """
import threading
from procrastinate.worker.run.threads import _DaemonThreads
begun = threading.Event()
_DaemonThreads().submit(lambda: (begun.set(), threading.Event().wait()))
begun.wait()
"""


def test_a_busy_task_thread_does_not_keep_the_process_from_its_exit() -> None:
    subprocess.run([sys.executable, "-c", _EXIT_WITH_A_BUSY_THREAD], check=True, timeout=30)


async def test_a_thread_is_used_again() -> None:
    threads = TaskThreads(on_returned=lambda: None)
    try:
        names = {await threads.run(lambda: threading.current_thread().name, lambda _: None) for _ in range(20)}
    finally:
        threads.close()
    assert len(names) == 1


def test_a_call_that_no_thread_could_be_started_for_is_not_made_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = _DaemonThreads()
    made: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            threads.submit(lambda: made.append("refused"))
    threads.submit(lambda: made.append("started")).result(timeout=30)
    threads.close()
    assert made == ["started"]


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Refuse threads for tasks until the event is set."""
    start, allowed = threading.Thread.start, threading.Event()

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("procrastinate-task") and not allowed.is_set():
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(threads, "_NO_THREAD_PAUSE", 0.01)
    monkeypatch.setattr(job_run, "_NO_THREAD_DELAY", 0.2)
    return allowed


async def swallow(call: Any, context: Any, worker: Any) -> None:
    """Catch what a job raises, as middleware of the program may do."""
    with contextlib.suppress(Exception):
        await call()


@pytest.mark.parametrize("options", [{}, {"worker_middleware": [swallow]}], ids=["plain", "middleware"])
async def test_a_job_without_a_thread_is_released_and_runs_once_a_thread_can_be_started(
    app: App, workers: Workers, queue: Queue, no_threads: threading.Event, options: dict[str, Any]
) -> None:
    ran: list[int] = []
    job_id = await app.task(name="sync")(lambda: ran.append(1)).defer_async()
    workers.start(**options)
    await until(lambda: queue.row(job_id)["scheduled_at"] is not None)
    assert queue.row(job_id)["attempts"] == 0
    no_threads.set()
    await queue.succeeded(job_id)
    assert (ran, queue.row(job_id)["attempts"]) == ([1], 1)


async def test_a_job_whose_timeout_passes_while_it_waits_for_a_thread_is_released(
    app: App, workers: Workers, queue: Queue, no_threads: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_NO_THREAD_PAUSE", 60)
    job_id = await app.task(name="sync", timeout=0.1)(lambda: None).defer_async()
    workers.start()
    await until(lambda: queue.row(job_id)["scheduled_at"] is not None)
    no_threads.set()
    await queue.succeeded(job_id)


async def test_a_worker_stops_while_no_thread_can_be_started(
    app: App, workers: Workers, queue: Queue, no_threads: threading.Event
) -> None:
    job_id = await app.task(name="sync")(lambda: None).defer_async()
    running = workers.start()
    await until(lambda: queue.events(job_id)[-1] == "started")
    await running.stopped()
    assert queue.status(job_id) is Status.TODO
