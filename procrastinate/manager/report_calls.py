"""The part of the job manager that reads what runs report: progress, logs and stacks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from procrastinate import core
from procrastinate._checks.ids import asked_id
from procrastinate.manager.operation_calls import OperationCalls, require_found
from procrastinate.manager.stacks import PAUSE, STACK_TIMEOUT, StackWait, read_timeout


class ReportCalls(OperationCalls):
    """The operations on reports of runs."""

    def get_progress(self, job_id: int, connection: Any | None = None) -> core.JobProgress:
        """Return how far a job is, in one round trip. Its task says so with ``context.progress()``.

        Raises
        ------
        NoResult
            The job does not exist.
        """
        return require_found(job_id, self._run(connection, core.read_job_progress, asked_id(job_id)))

    async def get_progress_async(self, job_id: int, connection: Any | None = None) -> core.JobProgress:
        """Asynchronous version of :meth:`get_progress`."""
        return require_found(job_id, await self._run_async(connection, core.read_job_progress, asked_id(job_id)))

    def get_logs(self, job_id: int, connection: Any | None = None) -> tuple[core.KeptLog, ...]:
        """Return what the newest 20 runs of a job logged, newest first, if its task keeps logs.

        A run that has logged nothing has none. The last lines come up to a second late.

        Raises
        ------
        NoResult
            The job does not exist.
        """
        return require_found(job_id, self._run(connection, core.read_job_logs, asked_id(job_id)))

    async def get_logs_async(self, job_id: int, connection: Any | None = None) -> tuple[core.KeptLog, ...]:
        """Asynchronous version of :meth:`get_logs`."""
        return require_found(job_id, await self._run_async(connection, core.read_job_logs, asked_id(job_id)))

    def get_stack(self, job_id: int, *, timeout: float = STACK_TIMEOUT) -> core.JobStack:
        """Ask the worker of a running job where its code is now, and return the answer.

        The worker answers within a second. If it does not answer in time, the last stack of this run is returned if
        there is one. Its ``at`` tells its age. In an open transaction the request is not sent before the commit.

        Parameters
        ----------
        timeout:
            Maximum wait in seconds.

        Raises
        ------
        NoStack
            The job does not run, or its worker has not answered in time.
        """
        limit = read_timeout(timeout)
        wait = StackWait(job_id, self._run(None, core.request_stack, asked_id(job_id)), limit)
        while (stack := wait.examine(self._run(None, core.read_job_stack, asked_id(job_id)))) is None:
            time.sleep(PAUSE)
        return stack

    async def get_stack_async(self, job_id: int, *, timeout: float = STACK_TIMEOUT) -> core.JobStack:  # noqa: ASYNC109
        """Asynchronous version of :meth:`get_stack`."""
        limit = read_timeout(timeout)
        wait = StackWait(job_id, await self._run_async(None, core.request_stack, asked_id(job_id)), limit)
        while True:
            stack = wait.examine(await self._run_async(None, core.read_job_stack, asked_id(job_id)))
            if stack is not None:
                return stack
            await asyncio.sleep(PAUSE)
