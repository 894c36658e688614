"""Worker processes of `tests.worker.limited_program`, which tests kill and stop."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping

from tests.worker.limited_program import HEARTBEAT


class Workers:
    """Worker processes. One that is killed or stopped is followed by another one."""

    def __init__(
        self,
        database_url: str,
        number: int,
        slots: int,
        timeout: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = {**os.environ, **(environment or {})}
        self._command = [sys.executable, "-m", "tests.worker.limited_program", database_url, str(slots), str(timeout)]
        self._processes = collections.deque(self._start() for _ in range(number))

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, env=self._environment, stderr=subprocess.DEVNULL)

    @property
    def pids(self) -> list[int]:
        """Return the process ids of the workers, the oldest first."""
        return [process.pid for process in self._processes]

    def kill_one(self, place: int = 0) -> None:
        """Kill the worker that has run longest, or the one at this place."""
        killed = self._processes[place]
        del self._processes[place]
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        self._processes.append(self._start())

    def stop_all(self) -> None:
        """Ask all workers to stop, as a deployment does, and wait for their end."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            process.wait()

    def start_again(self) -> None:
        """Start as many workers as have stopped."""
        self._processes = collections.deque(self._start() for _ in self._processes)

    def kill_all(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def workers(
    database_url: str,
    number: int,
    *,
    slots: int = 8,
    timeout: float = 3 * HEARTBEAT,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Workers]:
    """Run worker processes until the end of the block."""
    running = Workers(database_url, number, slots, timeout, environment)
    try:
        yield running
    finally:
        running.kill_all()
