"""Describe where the code of a running job is, without values of variables."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from procrastinate._text.tracebacks import describe_frames, describe_stack

_DEEPEST = 500
"""Maximum number of awaits that are followed."""


def dump_stack(text: str) -> str:
    """Return a stack as the text of a JSON object."""
    return json.dumps({"text": text})


def stack_of_thread(read_thread: Callable[[], int | None]) -> str:
    """Return the stack of a thread. Empty if the job has left it.

    Parameters
    ----------
    read_thread:
        Returns the id of the thread that runs the job now, or ``None``.
    """
    thread = read_thread()
    frame = None if thread is None else sys._current_frames().get(thread)
    # The thread may run another job by now. Then the stack is of that job.
    return "" if frame is None or read_thread() != thread else describe_stack(frame)


def stack_of_task(task: asyncio.Task[Any]) -> str:
    """Return where a suspended asyncio task waits. Called in its event loop.

    The stack leads through the tasks that it awaits. ``asyncio.gather`` and the like end it.
    """
    return "" if task.done() else describe_frames(list(_frames(task)))


def _frames(task: asyncio.Task[Any]) -> Iterator[tuple[FrameType, int]]:
    """Yield the frames of the coroutines that await each other, from the outermost, with their lines."""
    current: Any = task.get_coro()
    for _ in range(_DEEPEST):
        if current is None:
            return
        frame: FrameType | None = _first(current, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            yield frame, frame.f_lineno
        awaited = _first(current, "cr_await", "gi_yieldfrom", "ag_await")
        if awaited is None or isinstance(awaited, asyncio.Future) or frame is None:
            awaiting: Any = getattr(task, "_fut_waiter", None)
            if not isinstance(awaiting, asyncio.Task):
                return
            task, awaited = awaiting, awaiting.get_coro()
        current = awaited


def _first(value: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(value, name, None)) is not None), None)
