"""Tell fetched jobs from earlier jobs of this worker that have the same id."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Set

from procrastinate import exceptions
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.worker.run.job_run import JobRun
from procrastinate.worker.run.outcome import run_of
from procrastinate.worker.run.outcome_writer import OutcomeWriter


class Claims:
    """The running jobs and unwritten outcomes of a worker, as a fetch may find them again.

    A restore of the database, the promotion of a lagging replica, or a sequence that starts again may bring an id that
    this worker has already. The job of that id is the same one or another one. The outcome of an earlier job must not
    be written to a later one.

    Parameters
    ----------
    running:
        The runs of the worker. The owner changes it.
    """

    def __init__(self, manager: JobManager, outcome_writer: OutcomeWriter, running: Collection[JobRun]) -> None:
        self._manager = manager
        self._outcome_writer = outcome_writer
        self._running = running
        self._void: set[JobRun] = set()

    def is_void(self, run: JobRun) -> bool:
        """Return true if the outcome of this run must not be written. Callable from any thread."""
        return run in self._void

    def forget(self, run: JobRun) -> None:
        """Forget a run that has ended."""
        self._void.discard(run)

    async def tell_apart(self, jobs: list[Job]) -> None:
        """Note which fetched jobs only look like a job that this worker has.

        After ``TRUNCATE ... RESTART IDENTITY`` a new job gets the id of an earlier one, and may have its task and
        arguments as well. It was deferred after the earlier one was claimed.
        """
        claims = self._claims_with_ids_of(jobs)
        if not claims:
            return
        with contextlib.suppress(exceptions.ConnectorException):  # without an answer they count as the same job
            newer = await self._manager.list_deferred_after(claims)
            for job in jobs:
                if job.id in newer:
                    self._let_go(job)

    def _claims_with_ids_of(self, jobs: list[Job]) -> dict[int, int]:
        """Return when this worker claimed the jobs that it has under these ids."""
        running = {run.job.id: run.job for run in self._running if run not in self._void}
        claims: dict[int, int] = {}
        for job in jobs:
            earlier = running.get(job.id) or self._outcome_writer.find(job)
            if earlier is not None and earlier.id is not None and earlier.claimed_at is not None:
                claims[earlier.id] = earlier.claimed_at
        return claims

    def _let_go(self, job: Job) -> None:
        """Forget an earlier job with the id of this one. Its outcome is not written."""
        self._void.update(run for run in self._running if _is_same_run(run.job, job))
        recorded = self._outcome_writer.find(job)
        if recorded is not None:
            self._outcome_writer.withdraw(recorded)

    def new_ones(self, jobs: list[Job]) -> list[Job]:
        """Return the fetched jobs that the worker does not have yet."""
        running = {run.job.id for run in self._running}
        return [job for job in jobs if not self._is_here(job, running)]

    def _is_here(self, job: Job, running: Set[int | None]) -> bool:
        """Return True if the worker already has this very job in the same attempt.

        This happens if the database knows nothing of the first fetch. If the id belongs to a different job by now, the
        outcome of the first one is dropped.
        """
        if job.id in running:
            runs = [run for run in self._running if _is_same_run(run.job, job) and run not in self._void]
            if any(_is_same_job(run.job, job) for run in runs):
                return True
            self._void.update(runs)
        recorded = self._outcome_writer.find(job)
        if recorded is None:
            return False
        if _is_same_job(recorded, job):
            return True
        self._outcome_writer.withdraw(recorded)
        return False


def _is_same_run(one: Job, other: Job) -> bool:
    return run_of(one) == run_of(other)


def _is_same_job(one: Job, other: Job) -> bool:
    return (one.task_name, one.task_kwargs) == (other.task_name, other.task_kwargs)
