"""A running driver program, and the communication with it."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

_LAST_LINES = 15


class DriverFailed(Exception):
    """A driver program ended, or stopped responding, before its work was done."""


class Driver:
    """A program of :mod:`benchmarks.peers` in its own process. The end of the block kills it if it still runs.

    Parameters
    ----------
    python:
        The interpreter of the system's environment.
    program:
        Name of its module.
    asked:
        Its request: the options as JSON values.
    """

    def __init__(self, python: pathlib.Path, program: str, asked: Mapping[str, Any]) -> None:
        self._program = program
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by __exit__)
        # -P keeps the working directory off the path. Otherwise the procrastinate of this checkout would come first.
        command = [str(python), "-P", "-m", f"benchmarks.peers.{program}", json.dumps(asked)]
        pipe = subprocess.PIPE
        # Without byte code, this checkout is compiled at each start, and the installed peers are not: 0.1 s.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True, env=environment
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def expect(self, event: str, timeout: float = 180) -> dict[str, Any]:
        """Wait for the next message of the program and return it. It must announce this event.

        Parameters
        ----------
        timeout:
            Seconds after which the program is killed.

        Raises
        ------
        DriverFailed
            The program announced another event, or ended.
        """
        assert self._process.stdout is not None
        watchdog = threading.Timer(timeout, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        message: dict[str, Any] = json.loads(line) if line else {"event": "end"}
        if message["event"] != event:
            happened = f"{event!r} was expected, not {message['event']!r}"
            raise DriverFailed(f"{self._program}: {happened}\n{self._complaint()}")
        return message

    def go_on(self) -> None:
        """Send the line for which the program waits."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def finish(self, timeout: float = 180) -> dict[str, Any]:
        """Wait for the program's report and its exit, and return the report."""
        report = self.expect("done", timeout)
        self._process.wait(timeout=60)
        return report

    def _complaint(self) -> str:
        self._process.poll()
        self._errors.seek(0)
        return "\n".join(self._errors.read().splitlines()[-_LAST_LINES:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()
