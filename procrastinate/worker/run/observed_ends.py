"""Tell the observers of a run what has been recorded of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from procrastinate import exceptions, run_observers
from procrastinate._job import UnreadArguments
from procrastinate.core.rows import RescuedJob
from procrastinate.core.stored_json import load_headers
from procrastinate.jobs import Job, Status
from procrastinate.run_observers import ObservedRun
from procrastinate.worker.run.outcome import Outcome, Run

if TYPE_CHECKING:
    from procrastinate.worker.worker import Worker


class ObservedEnds:
    """The observed runs of a worker whose outcomes are not recorded yet. It is empty if nothing observes runs."""

    def __init__(self) -> None:
        self._waiting: dict[Run, ObservedRun] = {}
        self._unsure: set[Run] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def expect(self, outcome: Outcome, observed: ObservedRun) -> None:
        """Tell these observers as soon as the outcome is recorded."""
        self._waiting[outcome.run] = observed

    def note_failed_write(self, outcomes: Iterable[Outcome]) -> None:
        """Note that the outcomes may be recorded although their write failed. Callable from any thread."""
        if self._waiting:
            self._unsure.update(outcome.run for outcome in outcomes)

    def tell_recorded(self, outcomes: Iterable[Outcome], retried: Mapping[int, Status]) -> None:
        """Tell what the database has recorded.

        Parameters
        ----------
        retried:
            The status of each job that was to be retried. It is an end if its abort was requested since.
        """
        for outcome in outcomes:
            self._tell(outcome, retried.get(outcome.job_id, outcome.status))

    def tell_refused(self, outcome: Outcome) -> None:
        """Tell that an outcome does not count, because the worker no longer holds the job.

        If the answer to an earlier write was lost, that write has recorded the outcome.
        """
        self._tell(outcome, outcome.status if outcome.run in self._unsure else Status.DOING)

    def leave(self) -> None:
        """Tell that the worker ends without a record of the other outcomes."""
        for observed in list(self._waiting.values()):
            observed.leave()
        self._waiting.clear()
        self._unsure.clear()

    def _tell(self, outcome: Outcome, status: Status) -> None:
        observed = self._waiting.pop(outcome.run, None)
        self._unsure.discard(outcome.run)
        if observed is not None:
            observed.end(status, None if status is Status.DOING else outcome.exception)


def unstarted(worker: Worker, job: Job) -> ObservedRun | None:
    """Return what is told of the end of a job that did not run, or ``None`` if nothing observes runs."""
    if not run_observers.EVERYWHERE:
        return None
    hooks = worker.app.job_manager.hooks
    return ObservedRun(job=job, worker_name=worker.settings.name, app_hooks=hooks, is_run=False)


class LostJobs:
    """Jobs that end because their worker is lost."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def tell(self, job: RescuedJob, why: str) -> None:
        """Tell the observers of this worker's runs that a job has ended. It is read without its arguments."""
        lost = Job(
            id=job.id,
            status=job.status.value,
            queue=job.queue_name,
            lock=None,
            queueing_lock=None,
            task_name=job.task_name,
            task_kwargs=UnreadArguments(),
            attempts=max(job.attempts - 1, 0),
            trace_context=load_headers(job.trace_context),
        )
        observed = unstarted(self._worker, lost)
        if observed is not None:
            observed.end(job.status, exceptions.WorkerLost(why))
