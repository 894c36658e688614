"""Free the parked jobs, the lines of limits and the steps of workflows that no other event frees, and clean up."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator

from procrastinate.core import Unswept
from procrastinate.manager import JobManager
from procrastinate.worker.services.limit_definer import LimitDefiner
from procrastinate.worker.services.supervision import Service

_PAUSE = 60.0
"""Seconds between the beginnings of two rounds through the workflows, and through what limits leave behind."""
_STEP = 1000
"""Number of jobs that one statement changes at most."""


class Sweeper:
    """Walks through the locks, the lines and the workflows, a part at each call.

    The next round begins when one has ended, and that through the workflows at least a minute after the last one. A
    limit that jobs name and no worker has defined is logged once.

    Parameters
    ----------
    limit_definer:
        Stores limits of the code whose rows are gone.
    """

    def __init__(self, manager: JobManager, limit_definer: LimitDefiner, logger: logging.Logger) -> None:
        self._manager = manager
        self._limit_definer = limit_definer
        self._logger = logger
        self._is_first = True
        self._reported: set[str] = set()
        self._locks_to: str | None = None
        self._lines_to: tuple[str, str] | None = None
        self._workflows_to: tuple[int | None, int | None] = (None, None)
        self._workflows_at = -math.inf
        self._limits_to: str | None = None
        self._limits_at = -math.inf

    def parts(self, unswept: Unswept) -> Iterator[Service]:
        """Yield what sweeps the next parts of what there is to sweep. Each may fail by itself."""
        if unswept.parked:
            yield self._sweep_locks
        if unswept.resumed or (unswept.parked and self._is_first):
            yield self._unpark
        self._is_first = False
        if unswept.lines:
            yield self._sweep_lines
        if unswept.workflows:
            yield self._sweep_workflows
        if unswept.starts:
            yield self._sweep_limits

    async def _sweep_locks(self) -> None:
        self._locks_to = (await self._manager.sweep_parked_jobs(start=self._locks_to)).reached

    async def _unpark(self) -> None:
        """Free the jobs that were parked because of their queue.

        The first sweep always does. A queue may be served since the worker has started, and the look at what there is
        to sweep does not read all parked jobs.
        """
        while await self._manager.unpark_resumed_jobs() >= _STEP:
            pass

    async def _sweep_lines(self) -> None:
        while await self._manager.take_unserved_slots() >= _STEP:
            pass
        lines = await self._manager.sweep_lines(start=self._lines_to)
        self._lines_to = lines.reached
        self._report(set(lines.undefined) - self._limit_definer.define_again(lines.undefined))

    async def _sweep_workflows(self) -> None:
        step, group = self._workflows_to
        begins = step is None and group is None
        now = time.monotonic()
        if begins and now - self._workflows_at < _PAUSE:
            return
        if begins:
            self._workflows_at = now
        sweep = await self._manager.sweep_workflows(after_step=step, after_group=group)
        self._workflows_to = (sweep.reached_step, sweep.reached_group)
        if sweep.stranded:
            self._logger.error(
                "The rows of procrastinate_dependencies that say what some steps of workflows wait for are gone. "
                "These steps were cancelled: %s",
                ", ".join(map(str, sweep.stranded)),
                extra={"action": "steps_stranded", "job_ids": list(sweep.stranded)},
            )

    async def _sweep_limits(self) -> None:
        now = time.monotonic()
        if self._limits_to is None and now - self._limits_at < _PAUSE:
            return
        if self._limits_to is None:
            self._limits_at = now
        self._limits_to = (await self._manager.sweep_limits(after=self._limits_to)).reached

    def _report(self, undefined: Iterable[str]) -> None:
        for name in sorted(undefined):
            if name not in self._reported:
                self._reported.add(name)
                self._logger.warning(
                    "No worker has defined the limit %r, and its jobs wait. Start a worker of the program that has the "
                    "limit, or set numbers with `procrastinate limits set`",
                    name,
                    extra={"action": "limit_undefined", "limit_name": name},
                )
