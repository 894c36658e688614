"""Integrations that see each run from its beginning to its outcome, in every worker of the process.

Middleware sees what a task raises. An observer also sees what becomes of the job, and runs whose task is unknown.
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
from procrastinate.defer_hooks import enter_quietly, log_failure, read_deferred_at


@dataclasses.dataclass(kw_only=True)
class ObservedRun:
    """A run under way.

    Attributes
    ----------
    on_end:
        Functions that are called once, with what becomes of the job and what ended the run. The status is one of these:

        - ``SUCCEEDED``, ``FAILED`` or ``ABORTED``.
        - ``TODO`` with an exception: the job runs again.
        - ``TODO`` without an exception: the job is released. It has not run here.
        - ``CANCELLED``: the workflow of the job was cancelled, so the job did not start.
        - ``DOING``: the job goes on after the end of its run or of its worker, because nothing can stop it. Another
          worker takes it later.
    """

    job: Job
    worker_name: str | None
    on_end: list[Callable[[Status, BaseException | None], None]] = dataclasses.field(default_factory=list)
    _context: contextvars.Context | None = dataclasses.field(default=None, init=False)
    _has_ended: bool = dataclasses.field(default=False, init=False)

    def end(self, status: Status, exception: BaseException | None) -> None:
        """Tell the observers what becomes of the job. Only the first call does so."""
        if self._has_ended:
            return
        self._has_ended = True
        for tell in self.on_end:
            try:
                tell(status, exception)
            except BaseException:  # also an exit: what an observer does is not the job's
                log_failure(tell)

    def begin(self) -> None:
        """Note the context of the run, in which all observers have begun."""
        self._context = contextvars.copy_context()

    def leave(self) -> None:
        """Tell the observers that the worker ends before the run. Called outside of the run."""
        if self._context is not None:
            self._context.copy().run(self.end, Status.DOING, None)


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


def tell_of_end(job: Job, worker_name: str | None, status: Status, exception: BaseException | None) -> None:
    """Tell the observers of a job that has ended without a run."""
    if EVERYWHERE:
        run = ObservedRun(job=job, worker_name=worker_name)
        contextvars.copy_context().run(_begin_and_end, run, status, exception)


def _begin_and_end(run: ObservedRun, status: Status, exception: BaseException | None) -> None:
    with observed(run):
        run.end(status, exception)
