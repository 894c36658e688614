"""A terminal in a folder: runs commands one after the other, and servers in the background."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

DEADLINE = 60.0
"""The limit for any step, in seconds."""
_WARNINGS = ",".join(
    [
        "error",
        # For pytest-asyncio, which the user's environment may not have.
        'ignore:The configuration option "asyncio_default_fixture_loop_scope" is unset',
        # A worker leaves the engine of its tasks open. An error for that would keep uvloop from ending the process.
        "ignore:unclosed resource <:ResourceWarning",
    ]
)
_INTERPRETER = pathlib.Path(sys.executable).parent


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    """Wait for a condition. After the deadline, fail with the message of ``otherwise``."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise())
        time.sleep(0.02)


def shows(printed: str, expected: Iterable[str]) -> bool:
    """Return whether the output has the expected lines in that order. ``...`` matches anything."""
    patterns = [".*".join(re.escape(part.strip()) for part in line.split("...")) for line in expected]
    lines = iter(printed.splitlines())
    return all(any(re.fullmatch(pattern, line.strip()) for line in lines) for pattern in patterns)


@dataclasses.dataclass
class Server:
    """A command that runs until it is stopped."""

    command: str
    process: subprocess.Popen[bytes]
    log: pathlib.Path

    def wait_for_port(self, port: int) -> None:
        """Wait until a server listens on the port."""
        self._wait(lambda: is_open(port), f"does not listen on {port}")

    def wait_for_output(self, expected: tuple[str, ...]) -> None:
        """Wait until the server has printed the expected lines."""
        self._wait(lambda: shows(self.log.read_text(), expected), "does not print " + "\n".join(expected))

    def stop(self, number: int = signal.SIGINT) -> int:
        """Stop the server by Ctrl-C or another signal, and return its exit status."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        try:
            return self.process.wait(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"$ {self.command} does not stop:\n{self.log.read_text()}") from None

    def _wait(self, condition: Callable[[], bool], complaint: str) -> None:
        def is_so_or_over() -> bool:
            return condition() or self.process.poll() is not None

        wait_until(is_so_or_over, lambda: f"$ {self.command} {complaint}:\n{self.log.read_text()}")
        assert condition(), f"$ {self.command} has ended, and {complaint}:\n{self.log.read_text()}"


class Shell:
    """Runs commands by bash, each in the environment and the folder in which the one before has left it.

    Parameters
    ----------
    directory:
        Where the first command runs.
    environment:
        Over that of the tests.
    """

    def __init__(self, directory: pathlib.Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self._kept = directory.parent / f"{directory.name}-shell"
        self._kept.mkdir()
        self._state = self._kept / "state"
        self._state.write_text(f"cd {shlex.quote(str(directory))}\n")
        path = os.pathsep.join([str(_INTERPRETER), os.environ["PATH"]])
        # Python's defaults, because the compiled files show which modules were imported.
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "PG", "PYTHON", "DJANGO_"))
        }
        self._environment = own | {"PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": _WARNINGS} | environment
        self._servers: list[Server] = []

    def run(self, command: str, *, timeout: float = DEADLINE * 2) -> str:
        """Run a command, check that it succeeds, and return its output."""
        script = (
            f'{self._restore()}{command}\nstatus=$?\n{{ declare -px; echo cd $(printf %q "$PWD"); }} > {self._file}\n'
        )
        done = subprocess.run(
            ["bash", "-c", script + "exit $status"],
            env=self._environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\nexits with {done.returncode}:\n{done.stdout}"
        self.directory = pathlib.Path(shlex.split(self._state.read_text().splitlines()[-1])[1])
        return done.stdout

    def start(self, command: str) -> Server:
        """Start a server."""
        log = self._kept / f"server-{len(self._servers)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"{self._restore()}exec {command}"],
                env=self._environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(command, process, log)
        self._servers.append(server)
        return server

    def printed_by_server(self) -> str:
        """Return what the server that started last has printed so far."""
        return self._servers[-1].log.read_text()

    def stop_servers(self) -> None:
        """Stop all servers, the last one first. A worker must exit with status 0."""
        with contextlib.ExitStack() as stack:
            for server in self._servers:
                stack.callback(_stop, server)
            self._servers = []

    def kill_servers(self) -> None:
        """Kill all running servers, whatever their exit status."""
        for server in self._servers:
            if server.process.poll() is None:
                os.killpg(server.process.pid, signal.SIGKILL)
                server.process.wait()
        self._servers = []

    def _restore(self) -> str:
        return f". {self._file}\n"

    @property
    def _file(self) -> str:
        return shlex.quote(str(self._state))


def _stop(server: Server) -> None:
    code = server.stop()
    assert code == 0 or " worker" not in server.command, (
        f"$ {server.command} exits with {code}:\n{server.log.read_text()}"
    )


def is_open(port: int) -> bool:
    """Return whether a server listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
