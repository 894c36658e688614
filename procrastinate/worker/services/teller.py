"""Tells the database what a worker is and does, with its heartbeat."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import platform
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from importlib import metadata
from typing import Any, Protocol

from procrastinate import core
from procrastinate.connector import BaseConnector
from procrastinate.core import HeartbeatAnswer, WorkerIdentity, WorkerReport
from procrastinate.core.errors import is_passing, is_row_refused
from procrastinate.worker.processes import exits
from procrastinate.worker.run.run_statistics import RunStatistics
from procrastinate.worker.services.unique_key_sweep import UniqueKeySweep
from procrastinate.worker.worker_settings import WorkerSettings

_ROLL_UP_INTERVAL = 600.0
"""Seconds between two looks for old statistics. They happen only while jobs run."""
_MOST_REFUSED = 20
"""Rows of statistics that one heartbeat may find refused. The others are dropped with them."""


def identity_of(settings: WorkerSettings, tasks: Collection[str]) -> WorkerIdentity:
    """Return what a worker with these settings says of itself.

    Parameters
    ----------
    tasks:
        The names of the tasks that it knows.
    """
    return WorkerIdentity(
        name=settings.name,
        hostname=platform.node(),
        pid=os.getpid(),
        version=_release(),
        queues=settings.queues,
        concurrency=settings.concurrency,
        listens=settings.listen_notify and settings.wait,
        task_list=hash_of(tasks),
    )


def _release() -> str:
    """Return the version of the package. It is empty in a program that has the package without its metadata."""
    try:
        return metadata.version("procrastinate")
    except metadata.PackageNotFoundError:
        return ""


def hash_of(tasks: Collection[str]) -> str:
    """Return the key under which these names of tasks are stored."""
    return hashlib.sha256("\n".join(sorted(tasks)).encode("utf-8", "replace")).hexdigest()[:32]


class LoopBeat:
    """Notes when an event loop last had a turn. One call per heartbeat."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._last_turn = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the last turn that was noted."""
        return time.monotonic() - self._last_turn

    @property
    def loop_has_ended(self) -> bool:
        """Whether the event loop is closed or broken."""
        return exits.has_ended(self._loop)

    def ask(self) -> None:
        """Ask for a turn. Called in another thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._note)

    def _note(self) -> None:
        self._last_turn = time.monotonic()


class MakesReports(Protocol):
    """Knows what the worker does."""

    def make(self) -> WorkerReport:
        """Return what the worker does, for the next heartbeat."""

    def calls_in_threads(self) -> Collection[Future[Any]]:
        """Return the calls that still run in threads, once the event loop has ended."""


class Teller:
    """What a worker tells with its heartbeat, and what it hears. All methods run in the heartbeat's thread.

    Parameters
    ----------
    tasks:
        The names of the tasks that the worker knows.
    work_report:
        Makes the report of what the worker does.
    on_answer:
        Called with each answer.
    """

    def __init__(
        self,
        identity: WorkerIdentity,
        tasks: Collection[str],
        *,
        work_report: MakesReports,
        on_answer: Callable[[HeartbeatAnswer], None],
        statistics: RunStatistics,
        loop_beat: LoopBeat,
        logger: logging.Logger,
    ) -> None:
        self.identity = identity
        self._tasks = tasks
        self._work_report = work_report
        self._on_answer = on_answer
        self._statistics = statistics
        self._loop_beat = loop_beat
        self._logger = logger
        self._has_kept_tasks = False
        self._unwritten: list[core.Runs] = []
        self._rolled_up_at = time.monotonic()
        self._has_warned = False
        self._unique_keys = UniqueKeySweep()

    def report(self) -> WorkerReport:
        """Return what the worker does, for the next heartbeat."""
        return self._work_report.make()

    @property
    def loop_has_ended(self) -> bool:
        """Whether the event loop has ended without the worker."""
        return self._loop_beat.loop_has_ended

    def calls_in_threads(self) -> Collection[Future[Any]]:
        """Return the calls that still run in threads, once the event loop has ended."""
        return self._work_report.calls_in_threads()

    def heard(self, answer: HeartbeatAnswer) -> None:
        """Take the answer to a heartbeat."""
        self._loop_beat.ask()
        self._on_answer(answer)

    def write_more(self, connector: BaseConnector) -> None:
        """Write the statistics, and delete free unique keys, if jobs have run since the last call.

        A failure is only logged. The worker lives on without statistics, for example if its role may not write them.
        One part that the database refuses keeps none of the others from being done.
        """
        self._take_runs()
        upkeep = [self._write_runs, self._roll_up, self._unique_keys.go_on] if self._unwritten else []
        failure: Exception | None = None
        for part in (self._keep_tasks, *upkeep):
            try:
                part(connector)
            except Exception as error:
                failure = failure or error
                if is_passing(error):  # the next heartbeat must not wait for the other parts, too
                    break
        if failure is None:
            self._has_warned = False
        else:
            self._warn(failure)

    def write_last(self, connector: BaseConnector) -> None:
        """Write the statistics of the last runs, which no heartbeat follows. A short worker has no others."""
        self._take_runs()
        try:
            self._write_runs(connector)
        except BaseException as error:  # an exit must not keep the thread from what is left to do
            self._warn(error)

    def _keep_tasks(self, connector: BaseConnector) -> None:
        if not self._has_kept_tasks and self.identity.task_list is not None:
            connector.run(core.keep_task_list, hash=self.identity.task_list, tasks=list(self._tasks))
            self._has_kept_tasks = True

    def _take_runs(self) -> None:
        if not self._unwritten:
            self._unwritten = self._statistics.take()

    def _write_runs(self, connector: BaseConnector) -> None:
        """Write the statistics of runs. Those that the database refuses are dropped, as it would refuse them again."""
        parts, refusals = [self._unwritten], list[Exception]()
        while parts and parts[-1]:
            part = parts.pop()
            try:
                connector.run(core.record_runs, part)
            except Exception as error:
                if not is_row_refused(error):
                    self._unwritten = [runs for rest in (part, *parts) for runs in rest]
                    raise
                middle = len(part) // 2
                if middle:
                    parts += [part[middle:], part[:middle]]
                    continue
                refusals.append(error)
                if len(refusals) >= _MOST_REFUSED:
                    break
        self._unwritten = []
        if refusals:
            raise refusals[0]

    def _roll_up(self, connector: BaseConnector) -> None:
        if time.monotonic() - self._rolled_up_at > _ROLL_UP_INTERVAL:
            self._rolled_up_at = time.monotonic()
            connector.run(core.roll_up_statistics)

    def _warn(self, error: BaseException) -> None:
        level = logging.DEBUG if self._has_warned else logging.WARNING
        self._has_warned = True
        with contextlib.suppress(BaseException):  # a failing log handler must not stop the heartbeat
            self._logger.log(
                level, "Statistics could not be written: %s", error, extra={"action": "record_statistics_error"}
            )
