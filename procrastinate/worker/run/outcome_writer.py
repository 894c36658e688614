"""Writes the outcomes of jobs: in batches, and until it has worked."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from procrastinate import core
from procrastinate.core.errors import is_invalid_value, is_passing, is_refused_for_now
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.worker.backoff import Backoff
from procrastinate.worker.run.outcome import Outcome, Run, run_of
from procrastinate.worker.run.outcome_delays import Delays

if TYPE_CHECKING:
    from procrastinate.jobs import DeleteJobCondition

_LARGEST_BATCH = 1000
_BATCH_TRIES = 3
"""How often a batch is tried as it is that the database refuses for now. A deadlock has passed by then."""

_Settle: TypeAlias = Callable[[Outcome, Exception], Awaitable[None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """What was recorded: the jobs that ended, and those to retry with the status that they have now."""

    finished: set[int]
    retried: Mapping[int, Status]

    @property
    def ids(self) -> set[int]:
        """The jobs of which something was recorded."""
        return self.finished | set(self.retried)


async def write_outcomes(
    manager: JobManager, outcomes: Sequence[Outcome], *, worker_id: int, delete_jobs: DeleteJobCondition
) -> Written:
    """Record outcomes of jobs that a worker holds: one operation for those that ended, one for those to retry.

    What the tasks' own transactions have recorded is not written again.
    """
    finished, retries = _by_operation(outcomes, delete_jobs)
    return Written(
        finished=await manager.finish_jobs(finished, worker_id=worker_id) if finished else set(),
        retried=await manager.retry_jobs(retries, worker_id=worker_id) if retries else {},
    )


def write_outcomes_in_thread(
    manager: JobManager, outcomes: Sequence[Outcome], *, worker_id: int, delete_jobs: DeleteJobCondition
) -> Written:
    """Do as :func:`write_outcomes`, from a thread beside the event loop, which may be blocked."""
    finished, retries = _by_operation(outcomes, delete_jobs)
    return Written(
        finished=manager.finish_jobs_in_thread(finished, worker_id=worker_id) if finished else set(),
        retried=manager.retry_jobs_in_thread(retries, worker_id=worker_id) if retries else {},
    )


def _by_operation(
    outcomes: Sequence[Outcome], delete_jobs: DeleteJobCondition
) -> tuple[list[core.FinishedJob], list[core.JobRetry]]:
    outcomes = [outcome for outcome in outcomes if not outcome.is_recorded]
    finished = [outcome.as_finished(delete_jobs) for outcome in outcomes if outcome.retry_decision is None]
    retries = [outcome.as_retry() for outcome in outcomes if outcome.retry_decision is not None]
    return finished, retries


class OutcomeWriter:
    """While one batch is being written the next one collects: no outcome waits longer than it must.

    When the database is away, outcomes are kept and written when it is back. While a job blocks the event loop, another
    thread writes what waits for the loop. Both take outcomes from one queue, so no outcome is written twice.

    Parameters
    ----------
    on_recorded:
        Called after each batch, with whether a lock may have been freed or a job waits again.
    """

    def __init__(
        self,
        manager: JobManager,
        delete_jobs: DeleteJobCondition,
        logger: logging.Logger,
        on_recorded: Callable[[bool], None],
    ) -> None:
        self._manager = manager
        self._delete_jobs = delete_jobs
        self._logger = logger
        self._on_recorded = on_recorded
        self._loop = asyncio.get_running_loop()
        self._own_context = contextvars.copy_context()
        self._pending: deque[Outcome] = deque()
        self._delays = Delays(logger)
        self._unrecorded: dict[Run, Outcome] = {}
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_idle(self) -> bool:
        """Whether everything is written that the database does not refuse each time."""
        return self._idle.is_set()

    @property
    def unrecorded_ids(self) -> set[int]:
        """The jobs whose outcome is not written yet. In any thread."""
        return {outcome.job_id for outcome in list(self._unrecorded.values())}

    def add(self, outcome: Outcome) -> None:
        """Record an outcome, soon; one that the task's own transaction has recorded is only told about."""
        if outcome.is_recorded:
            self._log_recorded([outcome])
            self._on_recorded(_frees_something(outcome))
            return
        self._unrecorded[outcome.run] = outcome
        self._idle.clear()
        self._add_again(outcome)

    def _add_again(self, outcome: Outcome) -> None:
        self._pending.append(outcome)
        self._arrived.set()

    def _add_later(self, outcome: Outcome, pause: float) -> None:
        """Try the outcome again after a pause, alone or with what has come by then."""
        self._loop.call_later(pause, self._add_again, outcome)

    async def flush(self) -> None:
        """Wait until everything is written that the database does not refuse each time."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write batch after batch, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._pending:
                batch = self._take()
                try:
                    await self._write_until_done(batch)
                except BaseException:
                    self._pending.extend(batch)  # what is written already is left out
                    self._arrived.set()
                    raise
                self._on_recorded(any(_frees_something(outcome) for outcome in batch))
            self._look_whether_idle()

    def _take(self) -> list[Outcome]:
        """Take a batch of what is pending, in any thread. What was withdrawn since is left out."""
        batch: list[Outcome] = []
        with contextlib.suppress(IndexError):  # the other thread may take the last one
            while len(batch) < _LARGEST_BATCH:
                batch.append(self._pending.popleft())
        return [outcome for outcome in batch if self._is_unrecorded(outcome)]

    def _is_unrecorded(self, outcome: Outcome) -> bool:
        return self.find(outcome.job) is outcome.job

    def _look_whether_idle(self) -> None:
        if all(self._delays.is_given_up(run) for run in self._unrecorded):
            self._idle.set()
        else:
            self._idle.clear()

    # While the event loop is blocked, in another thread

    def write_in_thread(self) -> int:
        """Write the outcomes that wait for the event loop, and return how many were written. Raises nothing.

        The loop may go on at any time, and writes the outcomes that are still pending then.
        """
        written = 0
        while batch := self._take():
            recorded = self._write_now(batch)
            written += len(recorded)
            with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has stopped
                context = self._own_context.copy()
                self._loop.call_soon_threadsafe(self._written_in_thread, batch, recorded, context=context)
        return written

    def _write_now(self, batch: list[Outcome]) -> set[Run]:
        """Return the runs that were recorded. The loop tries the others again, in its own way."""
        recorded: set[Run] = set()
        try:
            for worker_id, mine in _by_worker(batch):
                written = write_outcomes_in_thread(
                    self._manager, mine, worker_id=worker_id, delete_jobs=self._delete_jobs
                )
                recorded |= {outcome.run for outcome in mine if outcome.job_id in written.ids}
        except Exception as error:
            self._log_not_yet(batch, error)
        return recorded

    def _written_in_thread(self, batch: list[Outcome], recorded: set[Run]) -> None:
        for outcome in batch:
            if outcome.run in recorded:
                self._forget(outcome)
            elif self._is_unrecorded(outcome):
                self._add_again(outcome)
        self._log_recorded([outcome for outcome in batch if outcome.run in recorded])
        self._on_recorded(any(_frees_something(outcome) for outcome in batch))
        self._look_whether_idle()

    # In the event loop

    def _log_recorded(self, batch: list[Outcome]) -> None:
        if not self._logger.isEnabledFor(logging.DEBUG):
            return
        for outcome in batch:
            self._log(
                logging.DEBUG,
                "Recorded job %s as %s",
                outcome.job.call_string,
                outcome.status.value,
                extra={"action": "finish_task", "job": outcome.job.log_context(), "status": outcome.status.value},
            )

    def _log(self, level: int, message: str, *arguments: Any, extra: dict[str, Any]) -> None:
        """A log handler that raises must not keep outcomes from being written."""
        with contextlib.suppress(BaseException):
            self._logger.log(level, message, *arguments, extra=extra)

    async def _write_until_done(self, batch: list[Outcome], tries: int = _BATCH_TRIES) -> None:
        """Write a batch, and wait while the database is away. What the database refuses is split until one is left."""
        backoff = Backoff()
        while True:
            try:
                await self._write(batch)
                return
            except Exception as error:
                is_refused = is_refused_for_now(error)
                if not (is_refused or is_passing(error)):
                    await self._write_apart(batch, error, self._settle_refused)
                    return
                tries -= is_refused
                if tries <= 0:
                    await self._write_apart(batch, error, self._settle_refused_for_now)
                    return
                self._log_not_yet(batch, error)
                await asyncio.sleep(backoff.next_wait())

    def _log_not_yet(self, batch: list[Outcome], error: Exception) -> None:
        message, extra = "Cannot record the outcomes of %d jobs yet: %s", {"action": "record_outcomes_error"}
        self._log(logging.WARNING, message, len(batch), error, extra=extra)

    async def _write_apart(self, batch: list[Outcome], error: Exception, settle: _Settle) -> None:
        """One outcome of the batch cannot be written as it is. It must not hold up the others, nor be lost."""
        if len(batch) == 1:
            await settle(batch[0], error)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            await self._write_until_done(half, tries=1)

    async def _settle_refused_for_now(self, outcome: Outcome, error: Exception) -> None:
        """Try again by itself: a trigger of the user's may refuse it each time, with an error that seems to pass."""
        self._add_later(outcome, self._delays.after_refusal(outcome, error))

    async def _settle_refused(self, outcome: Outcome, error: Exception) -> None:
        """A retry with a value that no row can hold is written as a failure instead, and so is a return value that the
        database does not take. What cannot be written at all is tried again from time to time, until the worker stops;
        then the others find the job.
        """
        self._log(
            logging.ERROR,
            "The outcome of job %s cannot be recorded: %s",
            outcome.job.call_string,
            error,
            extra={"action": "record_outcome_refused", "job": outcome.job.log_context()},
        )
        if outcome.retry_decision is not None and is_invalid_value(error):
            await self._write_until_done([outcome.without_retry()])
        elif outcome.result is not None and is_invalid_value(error):
            await self._write_until_done([outcome.without_result(error)])
        else:
            self._add_later(outcome, self._delays.after_final_refusal(outcome))

    async def _write(self, batch: list[Outcome]) -> None:
        """Fenced by the worker id that each job was fetched with, which may not be the worker's id any more."""
        for worker_id, mine in _by_worker(batch):
            recorded = await self._write_for(worker_id, mine)
            written = [outcome for outcome in mine if outcome.job_id in recorded]
            for outcome in written:
                self._forget(outcome)
            self._log_recorded(written)
            await self._look_at_rest(worker_id, [outcome for outcome in mine if outcome.job_id not in recorded])

    async def _look_at_rest(self, worker_id: int, outcomes: list[Outcome]) -> None:
        """An outcome that was not recorded is no longer this worker's, or its row is locked: then it waits."""
        if not outcomes:
            return
        finished = [outcome.as_finished(self._delete_jobs) for outcome in outcomes]
        held = await self._manager.list_held_jobs(finished, worker_id=worker_id)
        for outcome in outcomes:
            if outcome.job_id in held:
                self._add_later(outcome, self._delays.after_lock(outcome))
            else:
                self._forget(outcome)
                self.refuse(outcome)

    async def _write_for(self, worker_id: int, batch: list[Outcome]) -> set[int]:
        written = await write_outcomes(self._manager, batch, worker_id=worker_id, delete_jobs=self._delete_jobs)
        self._log_not_retried(written.retried)
        return written.ids

    def _log_not_retried(self, statuses: Mapping[int, Status]) -> None:
        """The abort was requested after the retry had been decided."""
        for job_id, status in statuses.items():
            if status is not Status.TODO:
                self._log(
                    logging.INFO,
                    "Job %s is not tried again: its abort was requested meanwhile",
                    job_id,
                    extra={"action": "job_not_retried", "job_id": job_id, "status": status.value},
                )

    def find(self, job: Job) -> Job | None:
        """The job of this id, worker and attempt whose outcome is not written yet."""
        outcome = self._unrecorded.get(run_of(job))
        return None if outcome is None else outcome.job

    def withdraw(self, job: Job) -> None:
        """Do not write the outcome of this job."""
        outcome = self._unrecorded.pop(run_of(job))
        self._delays.forget(outcome.run)
        self.refuse(outcome)

    def _forget(self, outcome: Outcome) -> None:
        if self._is_unrecorded(outcome):
            del self._unrecorded[outcome.run]
        self._delays.forget(outcome.run)

    def refuse(self, outcome: Outcome) -> None:
        """Say that an outcome is not written."""
        self._log(
            logging.WARNING,
            "Job %s is no longer this worker's, or is recorded already: its outcome (%s) is not written",
            outcome.job.call_string,
            outcome.status.value,
            extra={"action": "outcome_refused", "job": outcome.job.log_context()},
        )


def _by_worker(batch: list[Outcome]) -> list[tuple[int, list[Outcome]]]:
    """Return the outcomes by the worker id that each job was fetched with."""
    ids = {outcome.job.worker_id for outcome in batch}
    return [(one, [outcome for outcome in batch if outcome.job.worker_id == one]) for one in ids if one is not None]


def _frees_something(outcome: Outcome) -> bool:
    return outcome.job.lock is not None or outcome.status is Status.TODO
