"""A worker process, as its supervisor sees it."""

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
    """How a worker process has ended.

    Attributes
    ----------
    code:
        Its exit code; of one that a signal has ended, less than 0: minus the number of the signal.
    has_started:
        Whether it came to the point where jobs are fetched.
    database_was_away:
        Whether that is why it did not.
    lifetime:
        In seconds.
    """

    code: int
    has_started: bool
    database_was_away: bool
    lifetime: float

    @property
    def words(self) -> str:
        """For the logs: the exit code, or the name of the signal."""
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"signal {signal.Signals(-self.code).name}"
        except ValueError:
            return f"signal {-self.code}"


class WorkerProcess:
    """One process that runs a worker. Made by :meth:`start`."""

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
            There is no such program, or no room for a process.
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
        """Its id in the system."""
        return self._process.pid

    @property
    def has_started(self) -> bool:
        """Whether it has come to the point where jobs are fetched."""
        return self._tether.has_said(Word.STARTED)

    async def ended(self) -> End:
        """Wait for its end."""
        code = await self._process.wait()
        self._tether.let_go()
        return End(
            code=code,
            has_started=self.has_started,
            database_was_away=self._tether.has_said(Word.DATABASE_UNAVAILABLE),
            lifetime=time.monotonic() - self._started_at,
        )

    def stop(self) -> None:
        """Have it stop gracefully. A second call changes nothing."""
        self._tether.let_go()

    def send_signal(self, number: int) -> None:
        """Pass a signal on. A worker that was told to stop ends at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, without a chance to hand its jobs back."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
