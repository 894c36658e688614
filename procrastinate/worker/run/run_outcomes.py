"""Where the outcome of a run goes: to the outcome writer, back to the queue, or nowhere."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from procrastinate import exceptions
from procrastinate._text.tracebacks import describe
from procrastinate.jobs import Job, Status
from procrastinate.worker.fetch.release import Releaser
from procrastinate.worker.run.claims import Claims
from procrastinate.worker.run.job_run import JobRun
from procrastinate.worker.run.observed_ends import unstarted
from procrastinate.worker.run.outcome import Outcome, decide_unstarted
from procrastinate.worker.run.outcome_writer import OutcomeWriter
from procrastinate.worker.run.run_log import log_job
from procrastinate.worker.run.run_statistics import RunStatistics

if TYPE_CHECKING:
    from procrastinate.worker.worker import Worker


class RunOutcomes:
    """Takes the outcomes of a worker's jobs.

    Attributes
    ----------
    left_ids:
        Jobs that go on in unstoppable threads after their run was cut. They have no outcome.
    """

    def __init__(
        self,
        worker: Worker,
        outcome_writer: OutcomeWriter,
        releaser: Releaser,
        statistics: RunStatistics,
        claims: Claims,
    ) -> None:
        self._worker = worker
        self._outcome_writer = outcome_writer
        self._releaser = releaser
        self._statistics = statistics
        self._claims = claims
        self.left_ids: frozenset[int] = frozenset()

    def take(self, run: JobRun, outcome: Outcome, lasted: float) -> None:
        """Record an outcome, or release the job for a worker that knows its task."""
        if outcome.is_left:
            self.left_ids |= {outcome.job_id}
            _tell(run, Status.DOING)
        elif self._claims.is_void(run):
            self._outcome_writer.refuse(outcome)
            _tell(run, Status.DOING)
        elif outcome.release_in is None:
            if outcome.has_run:
                self._statistics.add(outcome, lasted)
            self._outcome_writer.add(outcome, run.observed)
        else:
            _tell(run, Status.TODO)
            self._worker.own_context.copy().run(self._release, outcome.job, outcome.release_in)

    def _release(self, job: Job, delay: float) -> None:
        if delay:
            self._releaser.release_later(job, delay)
        else:  # it keeps its lock and its slot
            self._releaser.release([job])

    def fail(self, run: JobRun, error: BaseException, lasted: float) -> None:
        """Fail a job after an unforeseen error. It must not stay in status doing."""
        self._log_error("Job %s could not be run", run.job)
        kept = describe(error) if self._worker.settings.store_errors else None
        outcome = Outcome(job=run.job, status=Status.FAILED, exception=error, error=kept)
        self._statistics.add(outcome, lasted)
        self._outcome_writer.add(outcome, run.observed or unstarted(self._worker, run.job))

    def retry_unstarted(self, job: Job, error: BaseException) -> None:
        """Retry a job later, after code of the program (a factory of asyncio tasks, for example) has raised."""
        self._log_error("Job %s could not be started", job)
        outcome = decide_unstarted(job, error, store_errors=self._worker.settings.store_errors)
        self._outcome_writer.add(outcome, unstarted(self._worker, job))

    def abort_unstarted(self, job: Job) -> None:
        """End a prefetched job that a user asked to stop."""
        log_job(self._worker, "abort_job", "Job %s was aborted before it started", job)
        error = exceptions.JobAborted("The job was aborted before it started")
        outcome = Outcome(job=job, status=Status.ABORTED, exception=error)
        self._outcome_writer.add(outcome, unstarted(self._worker, job))

    def _log_error(self, message: str, job: Job) -> None:
        with contextlib.suppress(BaseException):  # a failing log handler must not change the job's outcome
            self._worker.logger.exception(message, job.id, extra={"action": "job_error"})


def _tell(run: JobRun, status: Status) -> None:
    """Tell the observers of a run of which nothing is recorded."""
    if run.observed is not None:
        run.observed.end(status, None)
