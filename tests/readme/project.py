"""A new user's project: the files that the README shows, and the commands that it names."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx

README = pathlib.Path(__file__).parents[2] / "README.md"
_PYTHON_BLOCK = re.compile(r"^```python\n# (?P<path>[\w/]+\.py)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_DEADLINE = 30.0


def readme_files() -> dict[str, str]:
    """The Python files of the README, by path."""
    return {block["path"]: block["code"] for block in _PYTHON_BLOCK.finditer(README.read_text())}


@dataclasses.dataclass
class Project:
    """A directory with the user's files, in which commands are run."""

    directory: pathlib.Path
    environment: dict[str, str]

    def write(self, path: str, code: str, *, append: bool = False) -> None:
        """Write a file, or add to it."""
        with (self.directory / path).open("a" if append else "w") as file:
            file.write(code)

    def run(self, *command: str) -> str:
        """Run a command to its end, and return what it printed."""
        done = subprocess.run(
            _with_path(command),
            cwd=self.directory,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_DEADLINE * 2,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    @contextlib.contextmanager
    def serve(self, *command: str, url: str) -> Iterator[None]:
        """Run a server meanwhile, and wait until it answers."""
        log = self.directory / "server.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                _with_path(command),
                cwd=self.directory,
                env=self._environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait_until_it_answers(server, url, log)
            yield
        finally:
            server.terminate()
            server.wait(timeout=_DEADLINE)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(self.directory)}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _with_path(command: tuple[str, ...]) -> list[str]:
    """The command as installed beside this interpreter."""
    name, *arguments = command
    program = sys.executable if name == "python" else str(pathlib.Path(sys.executable).parent / name)
    return [program, *arguments]


def _wait_until_it_answers(server: subprocess.Popen[bytes], url: str, log: pathlib.Path) -> None:
    deadline = time.monotonic() + _DEADLINE
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(url)
            return
        time.sleep(0.05)
    raise AssertionError(f"The server does not answer:\n{log.read_text()}")
