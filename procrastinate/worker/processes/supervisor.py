"""Run several worker processes: restart them when they end, and stop them together."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
from collections.abc import Iterator, Sequence

from procrastinate import _long_waits, exceptions
from procrastinate._text.logs import get_logger
from procrastinate.worker.backoff import Backoff
from procrastinate.worker.processes import forked_children
from procrastinate.worker.processes.signals import FormerHandler, SignalCount
from procrastinate.worker.processes.starts import Starts
from procrastinate.worker.processes.worker_process import End, WorkerProcess

logger = get_logger("procrastinate.supervisor")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 60.0
_LONGEST_IN_OUTAGE = 5.0
"""Seconds between two starts while the database is away. Each start imports the program, which takes processor time."""
_STEADY_AFTER = 60.0
"""Seconds after which a worker process counts as healthy. The pause after its end is a short one again."""
_LONG_START = 10.0
"""Seconds after which the log says that a worker process has not started."""
_END_TIMEOUT = 8.0
"""Seconds that worker processes get to end after a second signal, before they are killed."""

_NOT_MADE = End(code=126, has_started=False, database_was_away=False, lifetime=0.0)
"""The exit code of a shell for a program that it cannot execute."""


class Supervisor:
    """Supervisor of a fixed number of worker processes.

    Parameters
    ----------
    command:
        The program and its arguments.
    processes:
        Number of processes.
    replace:
        True to replace a process that has ended. If false, each process runs once.

    Attributes
    ----------
    was_signalled:
        True after SIGINT or SIGTERM.
    """

    def __init__(self, command: Sequence[str], processes: int, *, replace: bool) -> None:
        self._command = list(command)
        self._count = processes
        self._replace = replace
        self._stopping = asyncio.Event()
        self._running: dict[int, WorkerProcess] = {}
        self._starts = Starts()
        self._bad_ends: list[str] = []
        self._given_up: str | None = None
        self._signals = SignalCount()
        self._told = contextlib.ExitStack()
        self._ended_by: int | None = None
        self.was_signalled = False

    async def run(self) -> None:
        """Run worker processes until SIGINT or SIGTERM, and wait for their end.

        The supervisor passes a second signal on, and each worker process ends at once. It kills unfinished processes
        after a few seconds, or at a third signal.

        Raises
        ------
        WorkerProcessFailed
            The worker processes cannot start, or one ended badly at the stop or in its only run.
        SystemExit
            After a second signal, with the exit status that a shell uses for it.
        """
        self._log(logging.INFO, "start_supervisor", "Starting %s (pid %d)", _processes(self._count), os.getpid())
        with forked_children.released(), self._signal_handlers(), self._told:
            await asyncio.gather(*(self._keep(number) for number in range(1, self._count + 1)))
        self._log(logging.INFO, "stop_supervisor", "All worker processes have ended")
        self._raise_what_went_wrong()

    async def _keep(self, number: int) -> None:
        """Run one process after another under this number."""
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_IN_OUTAGE)
        pause: float | None = 0.0
        while pause is not None and not await self._is_stopped_within(pause):
            end = await self._run_process(number)
            pause = self._pause_after(number, end, backoff)

    async def _is_stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    async def _run_process(self, number: int) -> End:
        try:
            process = await WorkerProcess.start(self._command, number)
        except OSError as error:
            self._log(logging.ERROR, "process_not_made", "Worker process %d could not be made: %s", number, error)
            return _NOT_MADE
        self._running[number] = process
        self._log(logging.INFO, "start_process", "Worker process %d has pid %d", number, process.pid)
        if self._stopping.is_set():  # the stop came during the start
            process.stop()
        if self._ended_by is not None:
            process.send_signal(self._ended_by)
        try:
            with _long_waits.told(functools.partial(self._tell_unstarted, process), _LONG_START):
                return await process.ended()
        finally:
            del self._running[number]

    def _tell_unstarted(self, process: WorkerProcess, waited: float) -> None:
        """Say that a process does not get as far as fetching jobs. One that hangs in an import cannot say so itself."""
        if not process.has_started:
            message = "Worker process %d (pid %d) has not started to fetch jobs yet (%.0f s)"
            self._log(logging.WARNING, "process_starts_long", message, process.number, process.pid, waited)

    # After the end of a process

    def _pause_after(self, number: int, end: End, backoff: Backoff) -> float | None:
        """Return the seconds until the next process of that number, or ``None`` if there is none."""
        self._starts.count(end, something_runs=self._something_runs)
        if self._stopping.is_set() or not self._replace:
            self._note_last_end(number, end)
            return None
        if end.has_started and end.code == 0:
            message = "Worker process %d has ended by itself, and is replaced"
            self._log(logging.INFO, "process_ended", message, number)
            return 0.0
        if self._starts.is_hopeless(end, something_runs=self._something_runs):
            self._give_up(number, end)
            return None
        if end.lifetime >= _STEADY_AFTER:
            backoff.reset()
        pause = backoff.next_wait(is_outage=end.database_was_away)
        what = "has died" if end.has_started else "could not start"
        message = f"Worker process %d {what}: %s. The next one starts in %.1f s"
        self._log(logging.ERROR, "process_died", message, number, end.words, pause)
        return pause

    @property
    def _something_runs(self) -> bool:
        return any(process.has_started for process in self._running.values())

    def _give_up(self, number: int, end: End) -> None:
        starts = "" if self._starts.failed <= 1 else f", and {self._starts.failed} in a row have failed"
        self._given_up = (
            f"Worker process {number} could not start ({end.words}){starts}: see the log above. No more are started"
        )
        self._log(logging.ERROR, "processes_given_up", "%s; running ones are stopped", self._given_up)
        self.stop()

    def _note_last_end(self, number: int, end: End) -> None:
        """Record a bad end.

        A process that was stopped before it started, or that a second signal ended, cannot end badly.
        """
        if end.code == 0 or self._ended_by is not None or (self._stopping.is_set() and not end.has_started):
            return
        self._bad_ends.append(f"{number} ({end.words})")
        self._log(logging.ERROR, "process_died", "Worker process %d has died: %s", number, end.words)

    # Signals

    @contextlib.contextmanager
    def _signal_handlers(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        former = {number: FormerHandler(loop, number) for number in _SIGNALS}
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._at_signal, number)
        try:
            yield
        finally:
            for handler in former.values():
                handler.restore()

    def _at_signal(self, number: int) -> None:
        self.was_signalled = True
        count = self._signals.add(number)
        if count == 0:
            return
        if not self._stopping.is_set():
            self.stop()
            message = "Stopping %s gracefully; another signal ends all at once"
            self._log(logging.INFO, "stopping_processes", message, _processes(len(self._running)))
        elif self._ended_by is None:
            self._end(number)
        else:
            self._kill()

    def _end(self, number: int) -> None:
        self._ended_by = number
        message = "Ending %s at once; another signal kills what still runs"
        self._log(logging.WARNING, "ending_processes", message, _processes(len(self._running)))
        for process in self._running.values():
            process.send_signal(number)
        asyncio.get_running_loop().call_later(_END_TIMEOUT, self._kill)

    def _kill(self) -> None:
        if self._running:
            self._log(logging.WARNING, "killing_processes", "Killing %s", _processes(len(self._running)))
        for process in self._running.values():
            process.kill()

    def stop(self) -> None:
        """Stop the workers gracefully. A second call changes nothing."""
        if self._running and not self._stopping.is_set():
            self._told.enter_context(_long_waits.told(self._tell_running))
        self._stopping.set()
        for process in self._running.values():
            process.stop()

    def _tell_running(self, waited: float) -> None:
        running = ", ".join(f"{number} (pid {process.pid})" for number, process in sorted(self._running.items()))
        message = "Waiting for worker processes to end (%.0f s): %s"
        self._log(logging.INFO, "waiting_for_processes", message, waited, running)

    def _raise_what_went_wrong(self) -> None:
        if self._ended_by is not None:
            raise SystemExit(128 + self._ended_by)
        if self._given_up is not None:
            raise exceptions.WorkerProcessFailed(self._given_up)
        if self._bad_ends:
            raise exceptions.WorkerProcessFailed(f"Worker processes did not end well: {', '.join(self._bad_ends)}")

    def _log(self, level: int, action: str, message: str, *arguments: object) -> None:
        logger.log(level, message, *arguments, extra={"action": action})


def _processes(number: int) -> str:
    return f"{number} worker {'process' if number == 1 else 'processes'}"
