"""A worker process from the supervisor's point of view."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Sequence

from procrastinate.worker.processes.supervisor_socket import SupervisorsEnd, Word


@dataclasses.dataclass(frozen=True, kw_only=True)
class End:
    """End of a worker process.

    Attributes
    ----------
    code:
        The exit code, or minus the number of the signal that ended the process.
    has_started:
        True if the process got as far as fetching jobs.
    database_was_away:
        True if the process could not start because the database was unreachable.
    lifetime:
        In seconds.
    """

    code: int
    has_started: bool
    database_was_away: bool
    lifetime: float

    @property
    def words(self) -> str:
        """The exit code or the name of the signal, for the logs."""
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"signal {signal.Signals(-self.code).name}"
        except ValueError:
            return f"signal {-self.code}"


class WorkerProcess:
    """Process that runs a worker. :meth:`start` makes it."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, tether: SupervisorsEnd) -> None:
        self.number = number
        self._process = process
        self._tether = tether
        self._started_at = time.monotonic()

    @classmethod
    async def start(cls, command: Sequence[str], number: int) -> WorkerProcess:
        """Start the command as worker of that number.

        Raises
        ------
        OSError
            The program does not exist, or the system cannot start another process.
        """
        tether = SupervisorsEnd(number)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, env=os.environ | tether.environment, pass_fds=[tether.descriptor]
            )
        except BaseException:
            tether.let_go()
            raise
        finally:
            tether.handed_over()
        return cls(number, process, tether)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def has_started(self) -> bool:
        """True if the process got as far as fetching jobs."""
        return self._tether.has_said(Word.STARTED)

    async def ended(self) -> End:
        """Wait for the end of the process and return it."""
        code = await self._process.wait()
        self._tether.let_go()
        return End(
            code=code,
            has_started=self.has_started,
            database_was_away=self._tether.has_said(Word.DATABASE_UNAVAILABLE),
            lifetime=time.monotonic() - self._started_at,
        )

    def stop(self) -> None:
        """Stop the process gracefully. A second call changes nothing."""
        self._tether.let_go()

    def send_signal(self, number: int) -> None:
        """Send a signal to the process. A stopping worker ends at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the process. It cannot release its jobs."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
