"""Common parts of the driver programs: read the request, report events, and wait for the suite.

The protocol has lines. A driver writes one JSON object per event to its standard output. The suite sends an empty line
to its standard input to let it continue. Times come from the system's clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TextIO


@functools.cache
def _channel() -> TextIO:
    """Reserve standard output for the suite, and send other output of libraries to standard error."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return channel


def request() -> dict[str, Any]:
    """Return the request of the suite."""
    _channel()
    asked: dict[str, Any] = json.loads(sys.argv[1])
    return asked


def say(event: str, **values: Any) -> None:
    """Report an event to the suite."""
    _channel().write(json.dumps({"event": event, **values}) + "\n")
    _channel().flush()


def wait_for_word() -> None:
    """Block until the suite sends a line."""
    if not sys.stdin.readline():
        raise SystemExit("the suite has gone")


async def wait_for_word_async() -> None:
    """Asynchronous version of :func:`wait_for_word`."""
    await asyncio.to_thread(wait_for_word)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a driver on uvloop if it is installed, like all drivers."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)


MARK = 1000
"""Number of effects between two recorded times."""


class Effects:
    """Effects of the jobs: the number of runs of each.

    Parameters
    ----------
    jobs:
        Number of jobs. They are numbered from zero.
    """

    def __init__(self, jobs: int) -> None:
        self.runs = bytearray(jobs)
        self.left = jobs
        self.last_at = 0.0
        self.marks: list[float] = []
        self._all_ran = threading.Event()

    def add(self, number: int) -> None:
        """Record a run of the job with this number."""
        if not self.runs[number]:
            self.left -= 1
        self.runs[number] += 1
        if not self.left % MARK:
            self.marks.append(time.time())
        if not self.left:
            self.last_at = self.marks[-1]
            self._all_ran.set()

    async def wait(self) -> None:
        """Wait until every job has run."""
        await asyncio.to_thread(self._all_ran.wait)

    def summary(self) -> dict[str, int]:
        """Return the number of jobs that ran, and of jobs that ran more than once."""
        return {"ran": len(self.runs) - self.left, "doubled": sum(count > 1 for count in self.runs)}


def say_ran(effects: Effects, started_at: float, processor_before: float) -> None:
    """Report that all jobs have run, with the times and the processor seconds.

    Parameters
    ----------
    processor_before:
        :func:`time.process_time` at the start.
    """
    processor = time.process_time() - processor_before
    say("ran", started_at=started_at, last_at=effects.last_at, marks=effects.marks, processor=processor)


async def drain(effects: Effects, started_at: float) -> None:
    """Wait for all effects, report them, and wait until the suite has seen all outcomes recorded."""
    processor_before = time.process_time()
    await effects.wait()
    say_ran(effects, started_at, processor_before)
    await wait_for_word_async()


_BLOCK = 50
"""Number of calls of a block. Blocks of two ways alternate, so that a disturbance affects both."""


def time_both(jobs: int, plain: Callable[[int], object], unique: Callable[[int], object]) -> None:
    """Report the total seconds of two ways to defer a job, after a block of each to warm up."""
    for number in range(_BLOCK):
        plain(number)
        unique(-number - 1)
    seconds = {"plain": 0.0, "unique": 0.0}
    for first in range(0, jobs, _BLOCK):
        for name, action in (("plain", plain), ("unique", unique)):
            began = time.perf_counter()
            for number in range(first, first + _BLOCK):
                action(number)
            seconds[name] += time.perf_counter() - began
    say("done", **seconds)


async def time_both_async(
    jobs: int, plain: Callable[[int], Awaitable[object]], unique: Callable[[int], Awaitable[object]]
) -> None:
    """Asynchronous version of :func:`time_both`."""
    for number in range(_BLOCK):
        await plain(number)
        await unique(-number - 1)
    seconds = {"plain": 0.0, "unique": 0.0}
    for first in range(0, jobs, _BLOCK):
        for name, action in (("plain", plain), ("unique", unique)):
            began = time.perf_counter()
            for number in range(first, first + _BLOCK):
                await action(number)
            seconds[name] += time.perf_counter() - began
    say("done", **seconds)
