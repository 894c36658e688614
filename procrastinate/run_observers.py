"""Integrations that see each run from its beginning to its outcome, in every worker of the process.

Middleware sees what a task raises. An observer also sees what becomes of the job, and runs whose task is unknown.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from procrastinate._job import Job
from procrastinate.core.enums import Status
from procrastinate.defer_hooks import enter_quietly, log_failure


@dataclasses.dataclass(kw_only=True)
class ObservedRun:
    """A run under way. ``on_end`` is called with the new status of the job and what ended the run."""

    job: Job
    worker_name: str | None
    on_end: list[Callable[[Status, BaseException | None], None]] = dataclasses.field(default_factory=list)

    def end(self, status: Status, exception: BaseException | None) -> None:
        """Tell the observers what becomes of the job. ``Status.TODO`` stands for a retry."""
        for tell in self.on_end:
            try:
                tell(status, exception)
            except BaseException:  # also an exit: what an observer does is not the job's
                log_failure(tell)


EVERYWHERE: list[Callable[[ObservedRun], AbstractContextManager[Any]]] = []
"""Functions that return a block to enter around each run."""


@contextlib.contextmanager
def observed(run: ObservedRun) -> Iterator[None]:
    """Run inside the blocks of all observers. One that fails or exits is logged, and the job goes on."""
    with contextlib.ExitStack() as stack:
        for observer in EVERYWHERE:
            enter_quietly(observer, run, stack, BaseException)
        yield
