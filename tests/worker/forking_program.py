"""Runs a worker whose jobs fork: ``python -m tests.worker.forking_program URL OPTIONS``. Prints what the jobs saw."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import time
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.app import App

app = App(connector=WorkerConnector(sys.argv[1] if __name__ == "__main__" else "postgresql:///none"))
forking = multiprocessing.get_context("fork")
PATIENCE = 20.0


def _sleep(ready: Connection) -> None:
    ready.send(None)
    time.sleep(600)


def _wait_until_asleep(pid: int) -> None:
    """Wait until a process sleeps.

    In a grandchild of a thread, Python 3.13.0 loses a signal that comes between two instructions: without a worker,
    5 of 12 processes lived on. A signal that ends a sleep is not lost.
    """
    stat = pathlib.Path(f"/proc/{pid}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "S":
        time.sleep(0.001)


def _exit_code_after(number: int, method: str = "fork") -> int | None:
    context: Any = multiprocessing.get_context(method)
    here, there = context.Pipe()
    child = context.Process(target=_sleep, args=(there,))
    child.start()
    here.recv()
    assert child.pid is not None
    _wait_until_asleep(child.pid)
    os.kill(child.pid, number)
    child.join(PATIENCE)
    code: int | None = child.exitcode
    child.kill()
    child.join()
    return code


@app.task(name="signal_child")
def signal_child(number: int) -> None:
    """Signal a child of a thread, and print its exit code."""
    print(_exit_code_after(number), flush=True)


@app.task(name="signal_process")
def signal_process(number: int, method: str) -> None:
    """Signal a process that was started in another way than by a fork, and print its exit code."""
    print(_exit_code_after(number, method), flush=True)


@app.task(name="signal_child_of_loop")
async def signal_child_of_loop(number: int) -> None:
    """Signal a child of the event loop's thread, and print its exit code."""
    print(_exit_code_after(number), flush=True)


@app.task(name="signal_grandchild")
def signal_grandchild(number: int) -> None:
    """Signal a child of a child, and print its exit code."""
    here, there = forking.Pipe()
    child = forking.Process(target=lambda: there.send(_exit_code_after(number)))
    child.start()
    code: int | None = here.recv()
    child.join()
    print(code, flush=True)


@app.task(name="leave_busy_pool")
def leave_busy_pool() -> None:
    """Leave the block of a pool whose processes are busy."""
    here, there = forking.Pipe()
    with forking.Pool(1, _sleep, (there,)) as _:
        here.recv()
    print(0, flush=True)


@app.task(name="child_exits")
async def child_exits() -> None:
    """Print the exit code of a child that leaves by ``sys.exit()``. Python 3.11 loses the code in a pool's thread."""
    child = forking.Process(target=sys.exit, args=(3,))
    child.start()
    child.join(PATIENCE)
    print(child.exitcode, flush=True)


def _end(how: str) -> None:
    """Fork a process that ends as the task ends, and print its exit code in the parent."""
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    elif how == "exit":
        sys.exit(7)
    elif how == "raise":
        raise LookupError("in the child")


@app.task(name="fork_in_thread")
def fork_in_thread(how: str) -> None:
    """Fork in a thread."""
    _end(how)


@app.task(name="fork_in_loop")
async def fork_in_loop(how: str) -> None:
    """Fork in the thread of the event loop."""
    _end(how)


def _handler(number: int, frame: FrameType | None) -> None:
    os._exit(42)


async def run_worker(**options: Any) -> None:
    """Run the jobs on the loop that runs."""
    async with app.open_async():
        await app.run_worker_async(wait=False, **options)


if __name__ == "__main__":
    options = json.loads(sys.argv[2])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if options.pop("own_handler", False):
        signal.signal(signal.SIGTERM, _handler)
    if options.pop("uvloop", False):
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run_worker(**options))
    else:
        app.run_worker(wait=False, **options)
