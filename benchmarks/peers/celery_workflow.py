"""Runs one chord or one chain of Celery, with a worker and a Redis of its own. The result of the last task ends it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.peers import driving

_WARM_UP = 10
_PATIENCE = 150.0


@contextlib.contextmanager
def redis(directory: pathlib.Path) -> Iterator[None]:
    """Run a Redis that keeps nothing on disk."""
    socket = directory / "redis.sock"
    options = ("--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", str(directory))
    server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            if server.poll() is not None:
                raise SystemExit("redis-server has ended")
            time.sleep(0.02)
        os.environ["BENCHMARK_REDIS"] = str(socket)
        yield
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def worker() -> Iterator[None]:
    """Run a worker of one process. For tasks that do nothing, no other pool is faster."""
    options = ("--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR")
    command = [sys.executable, "-P", "-m", "celery", "-A", "benchmarks.peers.celery_app", "worker", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def begin(shape: str, size: int) -> Any:
    """Send the workflow, and return the result of its last task, without the results before it."""
    import celery  # type: ignore[import-untyped]

    from benchmarks.peers import celery_app as tasks

    if shape == "chord":
        parts = celery.group(tasks.noop.si() for _ in range(size))
        workflow = celery.chain(tasks.noop.si(), celery.chord(parts, tasks.total.s()))
    else:
        workflow = celery.chain(tasks.next_of_chain.si(0), *[tasks.next_of_chain.s()] * (size - 1))
    return tasks.app.AsyncResult(workflow.apply_async().id)


def main() -> None:
    asked = driving.request()
    shape, size = asked["shape"], asked["size"]
    with tempfile.TemporaryDirectory(prefix="redis-") as directory, redis(pathlib.Path(directory)), worker():
        begin(shape, _WARM_UP).get(timeout=_PATIENCE)
        driving.say("ready")
        driving.wait_for_word()
        began = time.perf_counter()
        ran = begin(shape, size).get(timeout=_PATIENCE)
        seconds = time.perf_counter() - began
    driving.say("done", seconds=seconds, ran=ran + (2 if shape == "chord" else 0), doubled=0)


main()
