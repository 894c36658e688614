"""Record outcomes of jobs that a worker holds, alone or together with a fetch."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from procrastinate import core, exceptions
from procrastinate.jobs import DeleteJobCondition, Job, Status
from procrastinate.manager import JobManager
from procrastinate.worker.fetch.fetcher import Claim
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.run.outcome import Outcome

FetchAlong: TypeAlias = Callable[[Claim], Awaitable[None]]
"""Calls its argument, which records outcomes and claims jobs, or returns without a call."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """Result of a write: ids of the finished jobs, and the retried jobs with their new status."""

    finished: set[int]
    retried: Mapping[int, Status]

    @property
    def ids(self) -> set[int]:
        """The ids of all recorded jobs."""
        return self.finished | set(self.retried)

    def status_of(self, outcome: Outcome) -> Status:
        """Return the recorded status. A job whose abort was requested is not retried."""
        return self.retried.get(outcome.job_id, outcome.status)


async def write_outcomes(
    manager: JobManager,
    outcomes: Sequence[Outcome],
    *,
    worker_id: int,
    delete_jobs: DeleteJobCondition,
    hand_over: bool = True,
) -> Written:
    """Record outcomes of jobs that a worker holds: one operation for finished jobs, one for retries.

    Outcomes that the tasks' own transactions recorded are not written again. If ``hand_over`` is false, locks are freed
    and not handed to the jobs that wait for them.
    """
    finished, retries = _by_operation(outcomes, delete_jobs)
    options: dict[str, Any] = {"worker_id": worker_id, "hand_over": hand_over}
    return Written(
        finished=await manager.finish_jobs(finished, **options) if finished else set(),
        retried=await manager.retry_jobs(retries, **options) if retries else {},
    )


def _by_operation(
    outcomes: Sequence[Outcome], delete_jobs: DeleteJobCondition
) -> tuple[list[core.FinishedJob], list[core.JobRetry]]:
    outcomes = [outcome for outcome in outcomes if not outcome.is_recorded]
    finished = [outcome.as_finished(delete_jobs) for outcome in outcomes if outcome.retry_decision is None]
    retries = [outcome.as_retry() for outcome in outcomes if outcome.retry_decision is not None]
    return finished, retries


@dataclasses.dataclass(frozen=True, slots=True)
class JointWrite:
    """Result of a write with a fetch. ``written`` is ``None`` if there was none, or if its answer was lost."""

    written: Written | None = None
    error: exceptions.ConnectorException | None = None


class Recorder:
    """Writes outcomes to the database.

    Parameters
    ----------
    board:
        Has the id of the worker.

    Attributes
    ----------
    fetch_along:
        Fetches with the statement that records outcomes. ``None`` if the connection cannot do both at once.
    """

    def __init__(self, manager: JobManager, delete_jobs: DeleteJobCondition, board: Noticeboard) -> None:
        self._manager = manager
        self._delete_jobs = delete_jobs
        self._board = board
        self.fetch_along: FetchAlong | None = None

    async def write(
        self, outcomes: Sequence[Outcome], *, worker_id: int, hand_over: bool = True, delete: bool = True
    ) -> Written:
        """Record outcomes as :func:`write_outcomes` does. If ``delete`` is false, all jobs are kept."""
        delete_jobs = self._delete_jobs if delete else DeleteJobCondition.NEVER
        return await write_outcomes(
            self._manager, outcomes, worker_id=worker_id, delete_jobs=delete_jobs, hand_over=hand_over
        )

    def write_in_thread(self, outcomes: Sequence[Outcome], *, worker_id: int) -> Written:
        """Do the same as :meth:`write` in a thread, because the event loop may be blocked."""
        finished, retries = _by_operation(outcomes, self._delete_jobs)
        return Written(
            finished=self._manager.finish_jobs_in_thread(finished, worker_id=worker_id) if finished else set(),
            retried=self._manager.retry_jobs_in_thread(retries, worker_id=worker_id) if retries else {},
        )

    async def list_held(self, outcomes: Sequence[Outcome], *, worker_id: int) -> set[int]:
        """Return the ids of the jobs that the worker still holds."""
        finished = [outcome.as_finished(self._delete_jobs) for outcome in outcomes]
        return await self._manager.list_held_jobs(finished, worker_id=worker_id)

    async def write_along(self, outcomes: Sequence[Outcome]) -> JointWrite:
        """Record outcomes and fetch in one round trip, if one of the jobs hands over a lock or a slot.

        Nothing is written if this takes two round trips, or if the fetch loop is busy or has no reason to look.
        """
        finished = self._finished_along(outcomes)
        if finished is None or self.fetch_along is None:
            return JointWrite()
        written: Written | None = None

        async def claim(
            worker_id: int, limit: int, *, queues: tuple[str, ...] | None, after: core.Rank | None
        ) -> list[Job] | None:
            nonlocal written
            both = await self._manager.finish_and_fetch_jobs(finished, worker_id, limit, queues=queues, after=after)
            if both is None:
                self.fetch_along = None
                return None
            written = Written(finished=both[0], retried={})
            return both[1]

        try:
            await self.fetch_along(claim)
        except exceptions.ConnectorException as error:
            return JointWrite(written, error)
        return JointWrite(written)

    def _finished_along(self, outcomes: Sequence[Outcome]) -> list[core.FinishedJob] | None:
        """Return the ends of the jobs if one round trip can record them and fetch."""
        worker_id = self._board.worker_id
        if not any(outcome.hands_over for outcome in outcomes):
            return None
        if any(outcome.retry_decision is not None or outcome.job.worker_id != worker_id for outcome in outcomes):
            return None
        finished = [outcome.as_finished(self._delete_jobs) for outcome in outcomes]
        return finished if self._manager.can_finish_and_fetch(finished) else None
