"""Counts of the package's functions that one piece of work calls."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import pathlib
import sys
import types
from collections.abc import Iterator

import greenlet

import procrastinate

_PACKAGE = str(pathlib.Path(procrastinate.__file__).parent)


@dataclasses.dataclass
class Calls:
    """The calls of Python functions of the package, in their order.

    A coroutine that goes on counts as the call that it was. A comprehension counts as a part of its function.
    """

    names: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    """The file and the function of each call."""
    depth: int = 0
    """How many calls were nested at most."""

    @property
    def functions(self) -> int:
        """Number of functions that were called."""
        return len(set(self.names))

    @property
    def files(self) -> int:
        """Number of files that these functions are in."""
        return len({file for file, _ in self.names})


@contextlib.contextmanager
def counted_calls() -> Iterator[Calls]:
    """Count the calls in this thread and the greenlets that it starts.

    The garbage of earlier tests is collected first. A generator that is closed by the collector would count as a call.
    """
    calls = Calls()
    seen: set[types.FrameType] = set()

    def note(frame: types.FrameType, event: str, _argument: object) -> None:
        if event != "call" or not _is_counted(frame) or frame in seen:
            return
        seen.add(frame)
        calls.names.append((frame.f_code.co_filename, frame.f_code.co_qualname))
        calls.depth = max(calls.depth, _depth_of(frame))

    gc.collect()
    gc.disable()
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        gc.enable()


def _is_counted(frame: types.FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_PACKAGE) and not frame.f_code.co_name.endswith("comp>")


def _depth_of(frame: types.FrameType) -> int:
    """Return the number of calls under way. Those that wait for the greenlet of the frame count, too."""
    depth = 0
    above: types.FrameType | None = frame
    current: greenlet.greenlet | None = greenlet.getcurrent()
    while current is not None:
        while above is not None:
            depth += _is_counted(above)
            above = above.f_back
        current = current.parent
        above = None if current is None else current.gr_frame
    return depth
