"""The program of `tests.worker.program`, in a process that a test starts and reads."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from tests import database
from tests.worker.running import soon

Process = asyncio.subprocess.Process
StartProcess = Callable[..., Awaitable[Process]]


class Programs:
    """Starts programs, and kills those that still run at the end of the test."""

    def __init__(self, database_url: str) -> None:
        self._url = database.libpq_url(database_url)
        self._processes: list[Process] = []

    async def start(self, **options: Any) -> Process:
        """Start the program with these options of its worker."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.worker.program", self._url, json.dumps({"queues": ["program"]} | options)),
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONWARNINGS": "error"},
        )
        self._processes.append(process)
        return process

    async def end_of_test(self) -> None:
        """Kill what still runs, and read what is left."""
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def ended(process: Process) -> tuple[int | None, str]:
    """Return the exit code and what was logged since the last look."""
    _, logged = await soon(process.communicate())
    return process.returncode, logged.decode()


async def says(process: Process, words: str) -> str:
    """Wait until the process logs these words, and return what it has logged."""
    assert process.stderr is not None
    logged = ""
    while words not in logged:
        line = (await soon(process.stderr.readline())).decode()
        assert line, f"It ended, and has not logged {words!r}: {logged}"
        logged += line
    return logged
