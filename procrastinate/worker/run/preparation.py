"""What a job needs before its task is called: the leave of its workflow, and arguments that were not fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from procrastinate import exceptions
from procrastinate._job import UnreadArguments
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.manager.step_values import may_take_values
from procrastinate.worker.backoff import Backoff, Repeats
from procrastinate.worker.run.outcome import RunResult
from procrastinate.worker.run.run_log import RunLog
from procrastinate.worker.run.stop_and_timeout import Cancellation

if TYPE_CHECKING:
    from procrastinate.worker.worker import Worker

R = TypeVar("R")


class Gate(Protocol):
    """Knows which steps of workflows may start."""

    async def may_start(self, group_id: int) -> bool:
        """Return whether a step of this group may start."""


class _AskedToStop(Exception):
    """The job is asked to stop before the database has answered."""


class Preparation:
    """Prepares one job. Only a step of a workflow, and a job with large arguments, needs it.

    Attributes
    ----------
    job:
        The job, with what was read for it so far.
    """

    def __init__(
        self, job: Job, worker: Worker, manager: JobManager, gate: Gate, cancellation: Cancellation, run_log: RunLog
    ) -> None:
        self.job = job
        self._worker = worker
        self._manager = manager
        self._gate = gate
        self._cancellation = cancellation
        self._run_log = run_log

    async def prepare(self) -> RunResult | None:
        """Do what the job needs. Return what becomes of the run if the task may not be called."""
        try:
            if isinstance(self.job.task_kwargs, UnreadArguments):
                await self._read_arguments()
            return None if self.job.workflow_id is None else await self._prepare_step(self.job.workflow_id)
        except _AskedToStop:
            return RunResult(release_in=0.0)

    async def _prepare_step(self, group_id: int) -> RunResult | None:
        """Ask whether the workflow goes on, and put the results of other steps into the arguments."""
        if not await self._may_start(group_id):
            return RunResult(is_cancelled=True)
        if not may_take_values(self.job.task_kwargs):
            return None
        message = "The results for job %s cannot be read yet: %s"
        try:
            self.job = await self._until_answered(
                lambda: self._manager.read_values(self.job), "values_not_read", message
            )
        except exceptions.InvalidJob as error:
            return RunResult(exception=error)
        # To read the values may have taken long.
        return None if await self._may_start(group_id) else RunResult(is_cancelled=True)

    async def _may_start(self, group_id: int) -> bool:
        message = "The workflow of job %s cannot be read yet: %s"
        return await self._until_answered(lambda: self._gate.may_start(group_id), "workflow_not_read", message)

    async def _read_arguments(self) -> None:
        """Read arguments that were too large for the fetch."""
        message = "The arguments of job %s cannot be read yet: %s"
        job = await self._until_answered(lambda: self._manager.read_arguments(self.job), "arguments_not_read", message)
        self.job = as_loggable(job, self._worker)

    async def _until_answered(self, ask: Callable[[], Awaitable[R]], action: str, message: str) -> R:
        """Ask the database until it answers.

        Raises
        ------
        _AskedToStop
            The job is asked to stop first.
        """
        pauses, repeats = Backoff(), Repeats()
        while self._cancellation.requested is None:
            try:
                return await ask()
            except exceptions.ConnectorException as error:
                level = repeats.level(error, asyncio.get_running_loop().time())
                if self._worker.logger.isEnabledFor(level):
                    self._run_log.write(self.job, level, action, message, error)
                await asyncio.sleep(pauses.wait_after(error))
        raise _AskedToStop


def as_loggable(job: Job, worker: Worker) -> Job:
    """Return the job with its task's setting for logged arguments. For an unknown task, the app's counts."""
    task = worker.app.tasks.get(job.task_name)
    return job.loggable(worker.app.logs_arguments) if task is None else task.loggable(job)
