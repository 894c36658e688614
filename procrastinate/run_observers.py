"""Integrations that see each run from its beginning to its outcome, in every worker of the process.

Middleware sees what a task raises. An observer also sees what is recorded of the job, runs whose task is unknown, and
jobs that end without a run.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from procrastinate._job import Job
from procrastinate.core.enums import Status
from procrastinate.defer_hooks import Hooks, enter_quietly, log_failure, read_deferred_at


@dataclasses.dataclass(kw_only=True)
class ObservedRun:
    """A run under way, or the end of a job that did not run.

    Attributes
    ----------
    app_hooks:
        The hooks of the worker's app, by which an integration of some apps knows its own.
    is_run:
        False if the job ends without a run: its worker was lost too often, or it was aborted before it started.
    on_end:
        Functions that are called once, with what becomes of the job and what ended the run. They are called when the
        database has recorded it, so the run has left the blocks of the observers by then. The context is that of the
        run. The status is one of these:

        - ``SUCCEEDED``, ``FAILED`` or ``ABORTED``.
        - ``TODO`` with an exception: the job runs again.
        - ``TODO`` without an exception: the job is released. It has not run here.
        - ``CANCELLED``: the workflow of the job was cancelled, so the job did not start.
        - ``DOING``: nothing is recorded, and another worker has taken the job or takes it later. Nothing can stop the
          run, or the worker no longer holds the job, or it ends before it can record the outcome.
    """

    job: Job
    worker_name: str | None
    app_hooks: Hooks
    is_run: bool = True
    on_end: list[Callable[[Status, BaseException | None], None]] = dataclasses.field(default_factory=list)
    _context: contextvars.Context | None = dataclasses.field(default=None, init=False)
    _has_ended: bool = dataclasses.field(default=False, init=False)

    def end(self, status: Status, exception: BaseException | None) -> None:
        """Tell the observers what becomes of the job. Only the first call does so."""
        if self._has_ended:
            return
        self._has_ended = True
        if self._context is None:
            contextvars.copy_context().run(self._enter_and_leave)
        (self._context or contextvars.Context()).copy().run(self._tell, status, exception)

    def _enter_and_leave(self) -> None:
        with observed(self):
            pass

    def _tell(self, status: Status, exception: BaseException | None) -> None:
        for tell in self.on_end:
            try:
                tell(status, exception)
            except BaseException:  # also an exit: what an observer does is not the job's
                log_failure(tell)

    def begin(self) -> None:
        """Note the context of the run, in which all observers have begun."""
        self._context = contextvars.copy_context()

    def leave(self) -> None:
        """Tell the observers that the worker ends before the run, or before the record of its outcome."""
        if self._context is not None:
            self.end(Status.DOING, None)


def seconds_waited(job: Job) -> float | None:
    """Return how long a job that starts now has waited since its defer or since its due time, if that is later.

    ``None`` if the job tells neither: plain SQL deferred it without a schedule, or it was rescued. The clocks may be
    those of different machines.
    """
    times = [] if job.scheduled_at is None else [job.scheduled_at.timestamp()]
    deferred_at = read_deferred_at(job.trace_context)
    if job.attempts == 0 and deferred_at is not None:
        times.append(deferred_at)
    return max(time.time() - max(times), 0.0) if times else None


EVERYWHERE: list[Callable[[ObservedRun], AbstractContextManager[Any]]] = []
"""Functions that return a block to enter around each run."""


@contextlib.contextmanager
def observed(run: ObservedRun) -> Iterator[None]:
    """Run inside the blocks of all observers. One that fails or exits is logged, and the job goes on."""
    with contextlib.ExitStack() as stack:
        for observer in EVERYWHERE:
            enter_quietly(observer, run, stack, BaseException)
        run.begin()
        yield
