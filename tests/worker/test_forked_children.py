"""Processes that tasks fork are not the worker."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

import pytest

from procrastinate.app import App
from tests import database
from tests.worker.running import Queue, soon

HANDLERS = pytest.mark.parametrize("handlers", [True, False], ids=["handlers", "no handlers"])
TASKS = ["signal_child", "signal_child_of_loop", "signal_grandchild"]


async def run(database_url: str, **options: Any) -> str:
    """Run the program's jobs, and return what they printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.worker.forking_program"),
        *(database.libpq_url(database_url), json.dumps(options)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await soon(process.communicate())
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, errors.decode()
    return output.decode().strip()


@HANDLERS
@pytest.mark.parametrize("task", TASKS)
async def test_sigterm_ends_a_forked_child(
    app: App, queue: Queue, database_url: str, task: str, handlers: bool
) -> None:
    job_id = await app.configure_task(task).defer_async(number=signal.SIGTERM)
    assert await run(database_url, install_signal_handlers=handlers) == str(-signal.SIGTERM)
    await queue.succeeded(job_id)


@HANDLERS
@pytest.mark.parametrize("task", TASKS)
async def test_sigint_raises_keyboard_interrupt_in_a_forked_child(
    app: App, queue: Queue, database_url: str, task: str, handlers: bool
) -> None:
    job_id = await app.configure_task(task).defer_async(number=signal.SIGINT)
    assert await run(database_url, install_signal_handlers=handlers) == "1"  # as multiprocessing ends it
    await queue.succeeded(job_id)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("task", ["signal_child", "signal_child_of_loop"])
async def test_signals_reach_a_forked_child_of_a_worker_on_uvloop(
    app: App, queue: Queue, database_url: str, task: str, number: signal.Signals
) -> None:
    pytest.importorskip("uvloop")
    job_id = await app.configure_task(task).defer_async(number=number)
    expected = str(-number) if number is signal.SIGTERM else "1"
    assert await run(database_url, uvloop=True) == expected
    await queue.succeeded(job_id)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
async def test_sigint_raises_keyboard_interrupt_in_a_process_that_is_not_forked_from_the_worker(
    app: App, queue: Queue, database_url: str, method: str
) -> None:
    job_id = await app.configure_task("signal_process").defer_async(number=signal.SIGINT, method=method)
    assert await run(database_url) == "1"
    await queue.succeeded(job_id)


@HANDLERS
async def test_a_pool_with_busy_processes_can_be_left(
    app: App, queue: Queue, database_url: str, handlers: bool
) -> None:
    job_id = await app.configure_task("leave_busy_pool").defer_async()
    assert await run(database_url, install_signal_handlers=handlers) == "0"
    await queue.succeeded(job_id)


async def test_a_forked_child_has_the_handler_that_the_program_had_set(app: App, database_url: str) -> None:
    await app.configure_task("signal_child").defer_async(number=signal.SIGTERM)
    assert await run(database_url, own_handler=True) == "42"


async def test_the_exit_of_a_forked_child_leaves_the_connections_of_the_worker_open(
    app: App, queue: Queue, database_url: str
) -> None:
    ids = [await app.configure_task("child_exits").defer_async() for _ in range(3)]
    assert (await run(database_url, concurrency=1)).split() == ["3", "3", "3"]
    await queue.succeeded(*ids)


@pytest.mark.parametrize(("how", "code"), [("return", "0"), ("exit", "7"), ("raise", "1")])
@pytest.mark.parametrize("task", ["fork_in_thread", "fork_in_loop"])
async def test_a_forked_child_ends_with_the_function_of_the_task(
    app: App, queue: Queue, database_url: str, task: str, how: str, code: str
) -> None:
    ids = [await app.configure_task(task).defer_async(how=how), await app.configure_task("child_exits").defer_async()]
    assert (await run(database_url, concurrency=1)).split() == [code, "3"]
    await queue.succeeded(*ids)
