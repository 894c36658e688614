"""Record outcomes of jobs in batches, and retry until they are written."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from procrastinate.core.errors import is_invalid_value, is_passing, is_referenced, is_refused_for_now
from procrastinate.exceptions import DatabaseUnavailable
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.run_observers import ObservedRun
from procrastinate.worker.backoff import Backoff, Repeats
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.loop_task import LoopTask
from procrastinate.worker.run.observed_ends import ObservedEnds
from procrastinate.worker.run.outcome import Outcome, Run, run_of
from procrastinate.worker.run.outcome_delays import Delays
from procrastinate.worker.run.pending_outcomes import PendingOutcomes
from procrastinate.worker.run.recorder import Recorder, Written

if TYPE_CHECKING:
    from procrastinate.jobs import DeleteJobCondition

_BATCH_TRIES = 3
"""Tries of a whole batch that the database refuses for now. A deadlock is over by then."""

_Settle: TypeAlias = Callable[[Outcome, Exception], Awaitable[None]]


class OutcomeWriter:
    """Writer of outcomes. While it writes one batch, the next one collects, so no outcome waits longer than it must.

    During a database outage the writer keeps the outcomes and writes them afterwards. While a job blocks the event
    loop, another thread writes the outcomes that wait for the loop. Both take outcomes from one queue, so no outcome is
    written twice.

    Parameters
    ----------
    board:
        Where it posts after each batch, and whether the batch may have freed a lock or returned a job to the queue.
    """

    def __init__(
        self,
        manager: JobManager,
        delete_jobs: DeleteJobCondition,
        logger: logging.Logger,
        board: Noticeboard,
    ) -> None:
        self.recorder = Recorder(manager, delete_jobs, board)
        self._logger = logger
        self._board = board
        self._loop_task = LoopTask(contextvars.copy_context())
        self._pending = PendingOutcomes()
        self._delays = Delays(logger)
        self._repeats = Repeats()
        self._unrecorded: dict[Run, Outcome] = {}
        self.observed_ends = ObservedEnds()
        self._idle = asyncio.Event()
        self._idle.set()
        self.on_settle: Callable[[float, int], None] | None = None
        """Called after each write in the event loop with its seconds and the number of recorded jobs."""

    @property
    def is_idle(self) -> bool:
        """True if every outcome is written, except outcomes that the database keeps refusing."""
        return self._idle.is_set()

    @property
    def unrecorded_ids(self) -> set[int]:
        """The ids of jobs with unwritten outcomes. Callable from any thread."""
        return {outcome.job_id for outcome in list(self._unrecorded.values())}

    def add(self, outcome: Outcome, observed: ObservedRun | None = None) -> None:
        """Queue an outcome for writing, or only report it if the task's own transaction recorded it.

        Parameters
        ----------
        observed:
            What is told of the record, if anything observes the run.
        """
        if observed is not None:
            self.observed_ends.expect(outcome, observed)
        if outcome.is_recorded:
            self._tell_recorded([outcome], {})
            self._post([outcome])
            return
        self._unrecorded[run_of(outcome.job)] = outcome
        self._idle.clear()
        self._add_again(outcome)

    def _add_again(self, outcome: Outcome) -> None:
        self._pending.add([outcome])

    def _add_later(self, outcome: Outcome, pause: float) -> None:
        """Retry the outcome after a pause, alone or together with newer outcomes."""
        self._loop_task.loop.call_later(pause, self._add_again, outcome)

    async def flush(self) -> None:
        """Wait until every outcome is written, except outcomes that the database keeps refusing."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write batch after batch, until cancelled."""
        while True:
            await self._pending.arrive()
            while self._pending:
                await self._pending.gather()
                batch = self._take()
                try:
                    has_fetched = await self._write_along(batch)
                    if not has_fetched:
                        await self._write_until_done(batch)
                except BaseException:
                    self._pending.add(batch)  # the next batch skips outcomes that are written already
                    raise
                self._pending.note_written(len(batch))
                self._post(batch, has_fetched=has_fetched)
                del batch  # its exceptions and results would stay in memory until the next one
            self._look_whether_idle()

    def _take(self) -> list[Outcome]:
        """Take a batch of pending outcomes without the withdrawn ones. Callable from any thread."""
        return [outcome for outcome in self._pending.take() if self.find(outcome.job) is outcome.job]

    def _look_whether_idle(self) -> None:
        if all(self._delays.is_given_up(run) for run in self._unrecorded):
            self._idle.set()
        else:
            self._idle.clear()

    # In another thread, while the event loop is blocked

    def write_in_thread(self) -> int:
        """Write the outcomes that wait for the event loop, and return their number. Raises nothing.

        The loop may resume at any time and then writes the outcomes that are still pending.
        """
        written = 0
        while batch := self._take():
            recorded = self._write_now(batch)
            written += len(recorded)
            with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has stopped
                self._loop_task.call_soon(functools.partial(self._written_in_thread, batch, recorded))
        return written

    def _write_now(self, batch: list[Outcome]) -> dict[Run, Status]:
        """Return the recorded runs and the status of each. The loop retries the others."""
        recorded: dict[Run, Status] = {}
        try:
            for worker_id, mine in _by_worker(batch):
                written = self.recorder.write_in_thread(mine, worker_id=worker_id)
                ids = written.ids
                recorded |= {one.run: written.status_of(one) for one in mine if one.job_id in ids}
        except Exception as error:
            self.observed_ends.note_failed_write(batch)
            self._log_not_yet(batch, error)
        return recorded

    def _written_in_thread(self, batch: list[Outcome], recorded: Mapping[Run, Status]) -> None:
        for outcome in batch:
            if outcome.run in recorded:
                self._forget(outcome)
            elif self.find(outcome.job) is outcome.job:
                self._add_again(outcome)
        told = [outcome for outcome in batch if outcome.run in recorded]
        self._tell_recorded(told, {outcome.job_id: recorded[outcome.run] for outcome in told})
        self._post(batch)
        self._look_whether_idle()

    # In the event loop

    def _post(self, batch: Sequence[Outcome], *, has_fetched: bool = False) -> None:
        if any(outcome.ends_step for outcome in batch):
            self._board.post_ended_step()
        if has_fetched:
            return
        if any(outcome.hands_over for outcome in batch):
            self._board.post_hand_over()
        self._board.post_room(is_upcoming=any(outcome.leaves_due_job for outcome in batch))

    def _tell_recorded(self, batch: Sequence[Outcome], retried: Mapping[int, Status]) -> None:
        if self.observed_ends:
            self.observed_ends.tell_recorded(batch, retried)
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
        """Log a message. A failing log handler must not keep outcomes from being written."""
        with contextlib.suppress(BaseException):
            self._logger.log(level, message, *arguments, extra=extra)

    async def _write_until_done(self, batch: list[Outcome], tries: int = _BATCH_TRIES) -> None:
        """Write a batch, and wait while the database is unreachable. Split a refused batch down to single outcomes."""
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
                if not is_refused:
                    self.observed_ends.note_failed_write(batch)
                await asyncio.sleep(backoff.wait_after(error))

    async def _write_along(self, batch: Sequence[Outcome]) -> bool:
        """Write a batch and fetch in one round trip, if the batch hands over a lock or a slot.

        Return false if nothing is written. If the answer is lost, the next try finds what is recorded.
        """
        began = self._loop_task.loop.time()
        joint = await self.recorder.write_along(batch)
        if joint.error is not None:
            self._board.post_doubt()  # the answer may be lost that says which jobs are claimed
            if joint.written is None and not is_refused_for_now(joint.error):
                self.observed_ends.note_failed_write(batch)
        if joint.written is None:
            return False
        self._tell_settled(began, joint.written)
        await self._settle_written(self._board.worker_id, batch, joint.written)
        return True

    def _log_not_yet(self, batch: list[Outcome], error: Exception) -> None:
        message, extra = "Cannot record the outcomes of %d jobs yet: %s", {"action": "record_outcomes_error"}
        is_outage = isinstance(error, DatabaseUnavailable)
        level = self._repeats.level(error, self._loop_task.loop.time()) if is_outage else logging.WARNING
        self._log(level, message, len(batch), error, extra=extra)

    async def _write_apart(self, batch: list[Outcome], error: Exception, settle: _Settle) -> None:
        """Split a batch that contains a refused outcome, which must neither delay nor lose the others."""
        if len(batch) == 1:
            if not await self._write_with_less(batch, error):
                await settle(batch[0], error)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            await self._write_until_done(half, tries=1)

    async def _write_with_less(self, batch: list[Outcome], error: Exception) -> bool:
        """Try again without what may be refused apart from the outcome. Return true if it helped.

        It is the deletion of a job that another table refers to, or the job that waits for the lock.
        """
        if is_referenced(error):
            with contextlib.suppress(Exception):
                await self._write(batch, delete=False)
                return True
        with contextlib.suppress(Exception):
            await self._write(batch, hand_over=False)
            return True
        return False

    async def _settle_refused_for_now(self, outcome: Outcome, error: Exception) -> None:
        """Retry the outcome alone, because a user's trigger may always refuse it with an error that looks temporary."""
        self._add_later(outcome, self._delays.after_refusal(outcome, error))

    async def _settle_refused(self, outcome: Outcome, error: Exception) -> None:
        """Handle an outcome that the database refuses permanently.

        A retry with an invalid value becomes a failure, and so does a return value that the database refuses. The
        writer retries any other outcome from time to time until the worker stops. Then other workers rescue the job.
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

    async def _write(self, batch: list[Outcome], *, hand_over: bool = True, delete: bool = True) -> None:
        """Write a batch, fenced by the worker id of each job's fetch. The worker may have a new id since."""
        for worker_id, mine in _by_worker(batch):
            written = await self._write_for(worker_id, mine, hand_over=hand_over, delete=delete)
            await self._settle_written(worker_id, mine, written)

    async def _settle_written(self, worker_id: int, batch: Sequence[Outcome], result: Written) -> None:
        recorded = result.ids
        rest = [outcome for outcome in batch if outcome.job_id not in recorded]
        written = [outcome for outcome in batch if outcome.job_id in recorded] if rest else batch
        for outcome in written:
            self._forget(outcome)
        self._tell_recorded(written, result.retried)
        await self._look_at_rest(worker_id, rest)

    async def _look_at_rest(self, worker_id: int, outcomes: list[Outcome]) -> None:
        """Retry outcomes whose row is locked, and drop outcomes of jobs that this worker no longer holds."""
        if not outcomes:
            return
        held = await self.recorder.list_held(outcomes, worker_id=worker_id)
        for outcome in outcomes:
            if outcome.job_id in held:
                self._add_later(outcome, self._delays.after_lock(outcome))
            else:
                self._forget(outcome)
                self.refuse(outcome)

    async def _write_for(self, worker_id: int, batch: list[Outcome], *, hand_over: bool, delete: bool) -> Written:
        began = self._loop_task.loop.time()
        written = await self.recorder.write(batch, worker_id=worker_id, hand_over=hand_over, delete=delete)
        self._tell_settled(began, written)
        self._log_not_retried(written.retried)
        return written

    def _tell_settled(self, began: float, written: Written) -> None:
        if self.on_settle is not None:
            self.on_settle(self._loop_task.loop.time() - began, len(written.ids))

    def _log_not_retried(self, statuses: Mapping[int, Status]) -> None:
        """Log the jobs whose abort was requested after the decision to retry."""
        for job_id, status in statuses.items():
            if status is not Status.TODO:
                self._log(
                    logging.INFO,
                    "Job %s is not retried: its abort was requested in the meantime",
                    job_id,
                    extra={"action": "job_not_retried", "job_id": job_id, "status": status.value},
                )

    def find(self, job: Job) -> Job | None:
        """Return the job of the same run (id, attempts and worker) with an unwritten outcome, or ``None``."""
        outcome = self._unrecorded.get(run_of(job))
        return None if outcome is None else outcome.job

    def withdraw(self, job: Job) -> None:
        """Drop the outcome of this job."""
        outcome = self._unrecorded.pop(run_of(job))
        self._delays.forget(outcome.run)
        self.refuse(outcome)

    def _forget(self, outcome: Outcome) -> None:
        run = run_of(outcome.job)
        unrecorded = self._unrecorded.get(run)
        if unrecorded is not None and unrecorded.job is outcome.job:
            del self._unrecorded[run]
        self._delays.forget(run)

    def refuse(self, outcome: Outcome) -> None:
        """Log that an outcome is not written, and tell the observers of its run."""
        self.observed_ends.tell_refused(outcome)
        self._log(
            logging.WARNING,
            "This worker no longer holds job %s, or its outcome is recorded already: outcome (%s) not written",
            outcome.job.call_string,
            outcome.status.value,
            extra={"action": "outcome_refused", "job": outcome.job.log_context()},
        )


def _by_worker(batch: list[Outcome]) -> list[tuple[int, list[Outcome]]]:
    """Group the outcomes by the worker id of their fetch."""
    ids = {outcome.job.worker_id for outcome in batch}
    return [(one, [outcome for outcome in batch if outcome.job.worker_id == one]) for one in ids if one is not None]
