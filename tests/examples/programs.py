"""Running the examples as their readers do: as programs, on a database of the test's own."""

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
    """Programs that find their database in the environment."""

    database_url: str

    def run(self, module: str, *arguments: str) -> str:
        """Run ``python -m module`` to its end, and return what it printed."""
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
        """Run a web server meanwhile; the address is the one that it prints."""
        server = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield _address(server)
        finally:
            server.terminate()
            server.wait(DEADLINE)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "DATABASE_URL": self.database_url, "PYTHONUNBUFFERED": "1"}


def _address(server: subprocess.Popen[str]) -> str:
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert server.stdout is not None
        with server.stdout:
            for line in server.stdout:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    printed = []
    while (line := lines.get(timeout=DEADLINE)) is not None:
        printed.append(line)
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found:
            return found[0]
    raise AssertionError("".join(printed))
