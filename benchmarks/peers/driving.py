"""What every driver program does: read its request, say what it has come to, wait for the word to go on.

The suite talks to a driver in lines: one JSON object for each thing that happened on its standard output, one empty
line on its standard input for each word to go on. Times are of the system's clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Coroutine
from typing import Any, TextIO


@functools.cache
def _channel() -> TextIO:
    """Standard output for the suite alone: what a library prints goes where errors go."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return channel


def request() -> dict[str, Any]:
    """What the suite asks for."""
    _channel()
    asked: dict[str, Any] = json.loads(sys.argv[1])
    return asked


def say(event: str, **values: Any) -> None:
    """Tell the suite that something has happened."""
    _channel().write(json.dumps({"event": event, **values}) + "\n")
    _channel().flush()


def wait_for_word() -> None:
    """Block until the suite says to go on."""
    if not sys.stdin.readline():
        raise SystemExit("the suite has gone")


async def wait_for_word_async() -> None:
    """As :func:`wait_for_word`, while the event loop goes on."""
    await asyncio.to_thread(wait_for_word)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a driver on uvloop where it is installed, as all its peers are."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)


MARK = 1000
"""After so many effects each, the time is noted."""


class Effects:
    """What the jobs did: each has a number, and counts its runs.

    Parameters
    ----------
    jobs:
        How many there are, numbered from zero.
    """

    def __init__(self, jobs: int) -> None:
        self.runs = bytearray(jobs)
        self.left = jobs
        self.last_at = 0.0
        self.marks: list[float] = []
        self._all_ran = threading.Event()

    def add(self, number: int) -> None:
        """A job runs."""
        if not self.runs[number]:
            self.left -= 1
        self.runs[number] += 1
        if not self.left % MARK:
            self.marks.append(time.time())
        if not self.left:
            self.last_at = self.marks[-1]
            self._all_ran.set()

    async def wait(self) -> None:
        """Until every job has run."""
        await asyncio.to_thread(self._all_ran.wait)

    def summary(self) -> dict[str, int]:
        """How many jobs ran, and how many of them more than once."""
        return {"ran": len(self.runs) - self.left, "doubled": sum(count > 1 for count in self.runs)}


def say_ran(effects: Effects, started_at: float, processor_before: float) -> None:
    """Tell that all jobs have run, and what it took.

    Parameters
    ----------
    processor_before:
        :func:`time.process_time` at the start.
    """
    processor = time.process_time() - processor_before
    say("ran", started_at=started_at, last_at=effects.last_at, marks=effects.marks, processor=processor)


async def drain(effects: Effects, started_at: float) -> None:
    """Wait for all effects, tell, and wait until the suite has seen them recorded."""
    processor_before = time.process_time()
    await effects.wait()
    say_ran(effects, started_at, processor_before)
    await wait_for_word_async()
