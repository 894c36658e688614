"""Writes the outcomes of jobs: in batches, and until it has worked."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from procrastinate.core.errors import is_invalid_value, is_passing, is_refused_for_now
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.worker.backoff import Backoff
from procrastinate.worker.delays import Delays
from procrastinate.worker.outcome import Outcome

if TYPE_CHECKING:
    from procrastinate.jobs import DeleteJobCondition

_LARGEST_BATCH = 1000
_BATCH_TRIES = 3
"""How often a batch is tried as it is that the database refuses for now. A deadlock has passed by then."""
_WAITED_FOR = 5
"""How often an outcome is refused for now, tried by itself, until a worker that stops waits for it no more."""
_REFUSED_PAUSE = 10.0
"""Seconds until an outcome is tried again that the database refuses for good: by a trigger of the user's, say."""
_ROW_IS_LOCKED = "another session has its row locked"


_Run = tuple[int | None, int, int | None]
"""What an outcome is of. A job may have been retried, and have run again, before a batch is through."""
_Settle: TypeAlias = Callable[[Outcome, Exception], Awaitable[None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """What was recorded: the jobs that ended, and those to retry with the status that they have now."""

    finished: set[int]
    retried: Mapping[int, Status]


async def write_outcomes(
    manager: JobManager, outcomes: Sequence[Outcome], *, worker_id: int, delete_jobs: DeleteJobCondition
) -> Written:
    """Record outcomes of jobs that a worker holds: one operation for those that ended, one for those to retry.

    What the tasks' own transactions have recorded is not written again.
    """
    outcomes = [outcome for outcome in outcomes if not outcome.is_recorded]
    finished = [outcome.as_finished(delete_jobs) for outcome in outcomes if outcome.retry_decision is None]
    retries = [outcome.as_retry() for outcome in outcomes if outcome.retry_decision is not None]
    return Written(
        finished=await manager.finish_jobs(finished, worker_id=worker_id) if finished else set(),
        retried=await manager.retry_jobs(retries, worker_id=worker_id) if retries else {},
    )


class Recorder:
    """While one batch is being written the next one collects: no outcome waits longer than it must.

    When the database is away, outcomes are kept and written when it is back.

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
        self._pending: list[Outcome] = []
        self._delays = Delays(logger)
        self._waiting: set[_Run] = set()
        self._tries: Counter[_Run] = Counter()
        self._unrecorded: dict[_Run, Outcome] = {}
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_idle(self) -> bool:
        """Whether everything is written."""
        return self._idle.is_set()

    @property
    def unrecorded_ids(self) -> set[int]:
        """The jobs whose outcome is not written yet."""
        return {outcome.job_id for outcome in self._unrecorded.values()}

    def add(self, outcome: Outcome) -> None:
        """Record an outcome, soon; one that the task's own transaction has recorded is only told about."""
        if outcome.is_recorded:
            self._log_recorded([outcome])
            self._on_recorded(_frees_something(outcome))
            return
        self._unrecorded[_run(outcome.job)] = outcome
        self._add_again(outcome)

    def _add_again(self, outcome: Outcome) -> None:
        self._waiting.discard(_run(outcome.job))
        self._pending.append(outcome)
        self._idle.clear()
        self._arrived.set()

    def _add_later(self, outcome: Outcome, pause: float, *, is_waited_for: bool) -> None:
        """Try the outcome again after a pause, alone or with what has come by then. :meth:`flush` may wait for it."""
        if is_waited_for:
            self._waiting.add(_run(outcome.job))
        asyncio.get_running_loop().call_later(pause, self._add_again, outcome)

    async def flush(self) -> None:
        """Wait until everything is written that the database has not refused for good."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write batch after batch, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._pending:
                batch, self._pending = self._pending[:_LARGEST_BATCH], self._pending[_LARGEST_BATCH:]
                await self._write_until_done(batch)
                self._on_recorded(any(_frees_something(outcome) for outcome in batch))
            if not self._waiting:
                self._idle.set()

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
                self._log(
                    logging.WARNING,
                    "Cannot record the outcomes of %d jobs yet: %s",
                    len(batch),
                    error,
                    extra={"action": "record_outcomes_error"},
                )
                await asyncio.sleep(backoff.next_wait())

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
        self._tries[_run(outcome.job)] += 1
        pause = self._delays.next_pause(outcome, f"the database refuses it ({error})")
        is_waited_for = self._tries[_run(outcome.job)] < _WAITED_FOR
        self._add_later(outcome, pause, is_waited_for=is_waited_for)

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
            self._add_later(outcome, _REFUSED_PAUSE, is_waited_for=False)

    async def _write(self, batch: list[Outcome]) -> None:
        """Fenced by the worker id that each job was fetched with, which may not be the worker's id any more."""
        for worker_id in {outcome.job.worker_id for outcome in batch}:
            assert worker_id is not None
            mine = [outcome for outcome in batch if outcome.job.worker_id == worker_id]
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
                pause = self._delays.next_pause(outcome, _ROW_IS_LOCKED)
                self._add_later(outcome, pause, is_waited_for=True)
            else:
                self._forget(outcome)
                self.refuse(outcome)

    async def _write_for(self, worker_id: int, batch: list[Outcome]) -> set[int]:
        written = await write_outcomes(self._manager, batch, worker_id=worker_id, delete_jobs=self._delete_jobs)
        self._log_not_retried(written.retried)
        return written.finished | set(written.retried)

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
        outcome = self._unrecorded.get(_run(job))
        return None if outcome is None else outcome.job

    def withdraw(self, job: Job) -> None:
        """Do not write the outcome of this job."""
        outcome = self._unrecorded.pop(_run(job))
        self._pending = [one for one in self._pending if one.job is not job]
        self._tries.pop(_run(job), None)
        self._delays.forget(outcome)
        self.refuse(outcome)

    def _forget(self, outcome: Outcome) -> None:
        if self.find(outcome.job) is outcome.job:
            del self._unrecorded[_run(outcome.job)]
        self._tries.pop(_run(outcome.job), None)
        self._delays.forget(outcome)

    def refuse(self, outcome: Outcome) -> None:
        """Say that an outcome is not written."""
        self._log(
            logging.WARNING,
            "Job %s is no longer this worker's, or is recorded already: its outcome (%s) is not written",
            outcome.job.call_string,
            outcome.status.value,
            extra={"action": "outcome_refused", "job": outcome.job.log_context()},
        )


def _run(job: Job) -> _Run:
    return job.id, job.attempts, job.worker_id


def _frees_something(outcome: Outcome) -> bool:
    return outcome.job.lock is not None or outcome.status is Status.TODO
