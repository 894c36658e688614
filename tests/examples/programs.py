"""Runs the examples like their readers do: as programs, on the test's own database."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parent.parent.parent
DEADLINE = 60.0


@dataclasses.dataclass(frozen=True)
class Programs:
    """Programs that read their database URL from the environment."""

    database_url: str

    def run(self, module: str, *arguments: str) -> str:
        """Run ``python -m module`` to its end, and return its output."""
        finished = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
        )
        assert finished.returncode == 0, finished.stdout
        return finished.stdout

    @contextlib.contextmanager
    def serve(self, module: str, *arguments: str) -> Iterator[str]:
        """Run a web server inside the ``with`` block, and yield the address that it prints."""
        server = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output = Output(server)
        try:
            yield output.address()
        except BaseException as error:
            error.add_note(f"{module} has printed:\n{output.so_far}")
            raise
        finally:
            output.stop()

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "DATABASE_URL": self.database_url, "PYTHONUNBUFFERED": "1"}


class Output:
    """The output of a server. A thread reads it to the end, so the server never blocks on a full pipe.

    Parameters
    ----------
    server:
        Its output is a pipe, with errors in it.
    """

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server
        self._printed: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def so_far(self) -> str:
        """Return the output so far."""
        return "".join(self._printed)

    def address(self) -> str:
        """Wait until an address is printed, and return the first one."""
        with contextlib.suppress(queue.Empty):
            while (line := self._lines.get(timeout=DEADLINE)) is not None:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    return found[0]
        raise AssertionError("The server prints no address")

    def stop(self) -> None:
        """Stop the server. Kill it and fail if it does not stop."""
        self._server.terminate()
        try:
            self._server.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"The server does not stop. It has printed:\n{self.so_far}") from None
        finally:
            self._server.kill()
            self._server.wait()
            self._reader.join(DEADLINE)

    def _read(self) -> None:
        assert self._server.stdout is not None
        with self._server.stdout:
            for line in self._server.stdout:
                self._printed.append(line)
                self._lines.put(line)
        self._lines.put(None)
