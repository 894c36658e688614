"""Running the command as a process."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
from typing import Any

DEADLINE = 60.0


@dataclasses.dataclass(frozen=True)
class Command:
    """``procrastinate`` with the app of the tests, on one database."""

    database_url: str

    def run(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end. ``environment``: more variables, ``APP`` for ``PROCRASTINATE_APP``."""
        finished = subprocess.run(
            _command(arguments),
            env=self._environment(environment),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            stdin=subprocess.DEVNULL,
        )
        assert not check or finished.returncode == 0, finished.stderr
        return finished

    def run_in_shell(self, line: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a line of the shell to its end, with the command in place of ``{command}``."""
        environment = self._environment({}) | {"PYTHONPATH": os.getcwd()}
        line = line.format(command=shlex.join(_command(arguments)))
        return subprocess.run(line, shell=True, env=environment, capture_output=True, text=True, timeout=DEADLINE)

    def start(self, *arguments: str, stderr: Any = subprocess.PIPE, **environment: str) -> subprocess.Popen[str]:
        """Start it, and leave it running. ``environment``: as for :meth:`run`."""
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": stderr}
        return subprocess.Popen(_command(arguments), env=self._environment(environment), text=True, **pipes)

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        own = {"TESTS_CLI_DATABASE_URL": self.database_url, "PROCRASTINATE_APP": "tests.cli.shop.app"}
        given = {f"PROCRASTINATE_{name}": value for name, value in more.items()}
        return {**os.environ, **own, **given}


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "procrastinate", *arguments]
