"""The processor time of processes, as Linux counts it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

_TICKS = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM, _CHILDREN_USER, _CHILDREN_SYSTEM = 11, 12, 13, 14


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process in seconds, that of its ended children included."""
    try:
        content = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = content.rpartition(")")[2].split()
    return sum(int(fields[index]) for index in (_USER, _SYSTEM, _CHILDREN_USER, _CHILDREN_SYSTEM)) / _TICKS


def family_seconds(pid: int) -> float:
    """Return the processor time of a process and of all its children, running or ended, in seconds.

    The running ones have one thread each, like those of PostgreSQL, and are read to the nanosecond if Linux tells.
    Else hundreds of idle backends would differ by their ticks of 10 ms.
    """
    return processor_seconds(pid) + sum(map(_thread_seconds, _children(pid)))


def _thread_seconds(pid: int) -> float:
    try:
        content = pathlib.Path(f"/proc/{pid}/schedstat").read_text()
    except OSError:
        return processor_seconds(pid)
    return int(content.split()[0]) / 1e9


def seconds_of(pids: Iterable[int]) -> float:
    """Return the processor time of several processes in seconds."""
    return sum(map(processor_seconds, pids))


def _children(pid: int) -> list[int]:
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
