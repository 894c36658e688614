"""Operations of workers: promote, claim, finish, retry and rescue jobs, and send heartbeats."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from procrastinate import core, exceptions
from procrastinate._job import Job, UnreadableArguments, UnreadArguments
from procrastinate.core.defaults import PROMOTED_AT_ONCE, PROMOTED_WITHOUT_TURN
from procrastinate.core.enums import Status
from procrastinate.core.errors import is_deadlock, is_lock_timeout, is_passing, is_row_refused, is_unique_violation
from procrastinate.core.tries import Tries
from procrastinate.manager.operation_calls import CHANGED_AT_ONCE, OperationCalls
from procrastinate.manager.step_values import with_values

T = TypeVar("T")

_PROMOTION_TRIES = 3
_RESCUED_AT_ONCE = 500
_SWEPT_AT_ONCE = 1000
_DEFINED_AT_ONCE = 200
"""Each limit that changes takes an advisory lock. By default a server has 6,400 locks for all its sessions."""


_WITHOUT_QUEUEING_LOCKS = {"keep_queueing_locks": False}


def _merged(parts: Iterable[dict[int, Status]]) -> dict[int, Status]:
    return {job_id: status for part in parts for job_id, status in part.items()}


class WorkerOperations(OperationCalls):
    """The operations of workers. They never run on a connection of the user."""

    async def promote_jobs(
        self,
        due_by: datetime.datetime | None = None,
        *,
        past: int = 0,
        without_turn: bool = False,
        paused: Collection[str] = (),
    ) -> core.Promotion:
        """Make due jobs with a free lock or a free slot ready for a fetch, a bounded number per call.

        Parameters
        ----------
        past:
            Number of jobs that the last promotion left undecided. The limit grows by this number.
        due_by:
            The current time, for tests that move the clock. The default is the database's clock.
        without_turn:
            Promote even if another session holds the turn, but examine fewer jobs.
        paused:
            The queues that are paused. Their due jobs are parked.
        """
        limit = past + (PROMOTED_WITHOUT_TURN if without_turn else PROMOTED_AT_ONCE)
        queues = sorted(paused)
        promotion = await self._decide(lambda: self._promote(limit, due_by, without_turn, queues))
        if promotion is None:
            return core.Promotion(promoted=0, again=True, next_due_in=None, undecided=None, had_turn=not without_turn)
        return await self._admit(promotion, queues) if promotion.has_openings else promotion

    async def _admit(self, promotion: core.Promotion, paused: Sequence[str]) -> core.Promotion:
        """Give away free slots, and return the promotion with what has become of both."""
        admission = await self._decide(lambda: self._admit_jobs(paused)) or core.Admission(again=True)
        undecided = promotion.undecided
        if undecided is not None:
            undecided += admission.undecided
        return dataclasses.replace(
            promotion,
            promoted=promotion.promoted + admission.admitted,
            again=promotion.again or admission.again or admission.undecided > 0,
            undecided=undecided if admission.had_turn else None,
            next_due_in=_earlier(promotion.next_due_in, admission.next_start_in),
        )

    async def _admit_jobs(self, paused: Sequence[str]) -> core.Admission:
        """Admit jobs in line. Set aside those that the database refuses to change."""
        options: dict[str, Any] = {"paused": paused, "set_aside": self.refused_rows.set_aside_by(core.admit_jobs)}
        try:
            return await self.connector.run_async(core.admit_jobs, **options)
        except exceptions.ConnectorException as error:
            if not is_row_refused(error):
                raise
        admission = await self.connector.run_async(core.admit_jobs, **options, one_by_one=True)
        refused = {refusal.job_id: refusal.error for refusal in admission.refused}
        self.refused_rows.note(refused, core.admit_jobs)
        return admission

    async def _decide(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """Call an operation that decides which jobs are ready. Return ``None`` if others always were faster."""
        for _ in range(_PROMOTION_TRIES):
            try:
                return await call()
            except exceptions.ConnectorException as error:
                if not (is_unique_violation(error) or is_deadlock(error)):
                    raise
        return None

    async def _promote(
        self, limit: int, due_by: datetime.datetime | None, without_turn: bool, paused: Sequence[str]
    ) -> core.Promotion:
        promotion, tried = await self._follow_async(
            self.refused_rows.work_around(
                core.promote_jobs,
                limit=limit,
                options={"without_turn": without_turn},
                due_by=due_by,
                paused=paused,
            )
        )
        return promotion if tried == limit else dataclasses.replace(promotion, again=True)

    async def resolve_arrivals(self) -> core.Resolution:
        """Let the next steps of workflows go, a bounded number per call.

        A row that the database refuses to change is looked at again later. It stops no other step.

        Raises
        ------
        ConnectorException
            The database cannot be reached, or refuses more than single rows.
        """
        in_parts = False
        for _ in range(_PROMOTION_TRIES):
            try:
                resolution = await self.connector.run_async(core.resolve_arrivals, in_parts=in_parts)
            except exceptions.ConnectorException as error:
                if is_row_refused(error) and not in_parts:
                    in_parts = True
                elif not is_deadlock(error):
                    raise
            else:
                self.refused_rows.note(resolution.refused)
                return resolution
        return core.Resolution(left=True)

    async def fetch_jobs(
        self,
        queues: Iterable[str] | None,
        worker_id: int,
        limit: int,
        *,
        task_names: Collection[str] | None = None,
        after: core.Rank | None = None,
        with_arguments: bool = True,
        paused: Collection[str] = (),
    ) -> list[Job]:
        """Claim up to ``limit`` ready jobs for a worker, in the order in which they should start.

        Logs hide their arguments until the worker has looked up what their tasks allow.

        Parameters
        ----------
        task_names:
            Claim only jobs of these tasks. This is for tests, because the query reads past all other jobs.
        after:
            The end of the last fetch. See :func:`procrastinate.core.fetch_jobs`.
        with_arguments:
            If true, read large arguments, too. If false, a job with large arguments has
            :class:`~procrastinate._job.UnreadArguments`, which :meth:`read_arguments` replaces.
        paused:
            The queues that are paused. Their jobs are left alone.
        """
        stored = await self._follow_async(
            self.refused_rows.collect(
                core.fetch_jobs,
                limit=limit,
                options={"worker_id": worker_id},
                queues=None if queues is None else list(queues),
                task_names=None if task_names is None else list(task_names),
                after=after,
                paused=sorted(paused),
            )
        )
        return await self._fetched_jobs(stored, with_arguments)

    async def _fetched_jobs(self, stored: Sequence[core.StoredJob], with_arguments: bool) -> list[Job]:
        if all(one.args is not None for one in stored):
            return self._jobs(stored, log_arguments=False)
        return [await self._fetched_job(one, with_arguments) for one in stored]

    async def _fetched_job(self, stored: core.StoredJob, with_arguments: bool) -> Job:
        job = self._job(stored, log_arguments=False)
        if stored.args is not None:
            return job
        unread = job.evolve(task_kwargs=UnreadArguments())
        return await self.read_arguments(unread) if with_arguments else unread

    async def read_arguments(self, job: Job) -> Job:
        """Return a copy of a job with the arguments that the fetch left out.

        They are :class:`~procrastinate._job.UnreadableArguments` if the database cannot write them as text.

        Raises
        ------
        ConnectorException
            The database did not answer, or the error is temporary.
        """
        assert job.id is not None
        try:
            texts = await self.connector.run_async(core.read_arguments, [job.id])
        except exceptions.ConnectorException as error:
            if is_passing(error):
                raise
            return job.evolve(task_kwargs=UnreadableArguments(str(error)))
        return job.evolve(task_kwargs=self._arguments(texts.get(job.id)))

    async def read_values(self, job: Job) -> Job:
        """Return a copy of a step of a workflow, with the results of other steps among its arguments.

        Raises
        ------
        InvalidJob
            A result is missing, because the step stored none or was deleted. Or the database cannot read it at all.
        ConnectorException
            The database did not answer, or the error is temporary.
        """
        assert job.id is not None
        try:
            values = await self.connector.run_async(core.read_values, job.id)
        except exceptions.ConnectorException as error:
            if is_passing(error):
                raise
            raise exceptions.InvalidJob(f"The results of other steps cannot be read: {error}") from error
        if not values:
            return job
        return job.evolve(task_kwargs=with_values(job.task_kwargs, values, self.connector.json_loads))

    async def list_cancelled_groups(self, group_ids: Sequence[int]) -> list[int]:
        """Return the groups whose steps may not start: see :func:`procrastinate.core.list_cancelled_groups`."""
        return await self.connector.run_async(core.list_cancelled_groups, group_ids)

    async def list_deferred_after(self, claims: Mapping[int, int]) -> set[int]:
        """Return the ids of jobs that are not the claimed ones: see :func:`procrastinate.core.list_deferred_after`."""
        return await self.connector.run_async(core.list_deferred_after, claims)

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Promote due jobs, then claim the next job for a worker. Return ``None`` if no job is ready."""
        promotion = await self.promote_jobs()
        if not promotion.had_turn:
            await self.promote_jobs(without_turn=True)
        jobs = await self.fetch_jobs(queues, worker_id, limit=1)
        return jobs[0] if jobs else None

    async def finish_jobs(
        self, finished: Sequence[core.FinishedJob], *, worker_id: int, hand_over: bool = True
    ) -> set[int]:
        """Record the outcomes of a worker's jobs, and return the ids of the jobs that the worker still held.

        Parameters
        ----------
        hand_over:
            If false, no lock is handed to the job that waits for it. See :func:`procrastinate.core.without_hand_over`.
        """
        if hand_over:
            return await self.connector.run_async(core.finish_jobs, finished, worker_id=worker_id)
        return await self.connector.run_async(core.without_hand_over, core.finish_jobs, finished, worker_id=worker_id)

    def can_finish_and_fetch(self, finished: Sequence[core.FinishedJob]) -> bool:
        """Return false for outcomes that leave details behind, and while a ready job cannot be claimed."""
        return core.can_finish_and_fetch(finished) and not self.refused_rows.set_aside_by(core.fetch_jobs)

    async def finish_and_fetch_jobs(
        self,
        finished: Sequence[core.FinishedJob],
        worker_id: int,
        limit: int,
        *,
        queues: Sequence[str] | None,
        after: core.Rank | None,
    ) -> tuple[set[int], list[Job]] | None:
        """Record outcomes and claim jobs in one round trip: see :func:`procrastinate.core.finish_and_fetch_jobs`.

        Ask :meth:`can_finish_and_fetch` before. Large arguments are not read. ``None`` means that the connection
        cannot do both at once, and that nothing was done.
        """
        both = await self.connector.run_async(
            core.finish_and_fetch_jobs, finished, worker_id=worker_id, limit=limit, queues=queues, after=after
        )
        if both is None:
            return None
        return both.recorded, await self._fetched_jobs(both.fetched, with_arguments=False)

    async def write_reports(self, reports: Sequence[core.NewReport], *, worker_id: int) -> None:
        """Store reports of runs, except those of runs that the worker has lost."""
        await self.connector.run_async(core.write_reports, reports, worker_id=worker_id)

    def write_reports_in_thread(self, reports: Sequence[core.NewReport], *, worker_id: int) -> None:
        """Do the same as :meth:`write_reports`, from a thread and not the event loop."""
        self.connector.run(core.briefly, core.write_reports, reports, worker_id=worker_id)

    async def list_open_operations(self, *, after: int = 0) -> list[int]:
        """Return the ids of operations on many jobs that are not over, up to a hundred after that id."""
        return await self.connector.run_async(core.list_open_operations, after=after)

    async def step_bulk_operation(self, operation_id: int) -> bool:
        """Do the next step of an operation on many jobs, and return whether another one follows."""
        from procrastinate.core import bulk  # its statements take long to build, and few workers need them

        return await self.connector.run_async(bulk.step_bulk_operation, operation_id)

    async def list_held_jobs(self, finished: Sequence[core.FinishedJob], *, worker_id: int) -> set[int]:
        """Return the ids of those jobs that the worker still holds."""
        return await self.connector.run_async(core.list_held_jobs, finished, worker_id=worker_id)

    async def release_jobs(
        self, fetched: Sequence[core.FetchedJob], *, worker_id: int, delay: float | None = None
    ) -> dict[int, Status]:
        """Release jobs that a worker holds and has not started. No attempt is counted.

        Parameters
        ----------
        delay:
            Seconds until the jobs may start. ``None`` keeps their readiness.

        Returns
        -------
        The new status of the jobs that the worker still held.

        Raises
        ------
        ConnectorException
            The outcome is unknown: the jobs may or may not be released. Do not call again.
        """
        released = await self._follow_async(self._release(fetched, worker_id=worker_id, delay=delay))
        return _merged(released)

    def release_jobs_in_thread(self, fetched: Sequence[core.FetchedJob], *, worker_id: int) -> dict[int, Status]:
        """Do the same as :meth:`release_jobs`, from another thread while the event loop may be blocked."""
        return _merged(self._follow(self._release(fetched, worker_id=worker_id)))

    def _release(self, fetched: Sequence[core.FetchedJob], **options: Any) -> Tries[list[dict[int, Status]]]:
        """Release jobs. A job that is refused stays as it is, and is looked for later."""
        return self.refused_rows.in_parts(core.release_jobs, fetched, otherwise=_WITHOUT_QUEUEING_LOCKS, **options)

    def list_unknown_jobs_in_thread(self, *, worker_id: int, known_ids: Collection[int]) -> list[core.FetchedJob]:
        """Return the jobs that a worker has fetched and does not know of, from a thread and not the event loop."""
        return self.connector.run(core.list_unknown_jobs, worker_id=worker_id, known_ids=known_ids)

    async def retry_jobs(
        self, retries: Sequence[core.JobRetry], *, worker_id: int, hand_over: bool = True
    ) -> dict[int, Status]:
        """Put a worker's jobs back into the queue, and return the new status of the jobs that the worker still held.

        If another session's open transaction has taken a queueing lock, the jobs go back without their queueing locks.
        ``hand_over`` is that of :meth:`finish_jobs`.
        """
        if not hand_over:
            return await self.connector.run_async(core.without_hand_over, core.retry_jobs, retries, worker_id=worker_id)
        try:
            return await self.connector.run_async(core.retry_jobs, retries, worker_id=worker_id)
        except exceptions.ConnectorException as error:
            if not is_lock_timeout(error):
                raise
        return await self.connector.run_async(core.retry_jobs, retries, worker_id=worker_id, keep_queueing_locks=False)

    def finish_jobs_in_thread(self, finished: Sequence[core.FinishedJob], *, worker_id: int) -> set[int]:
        """Do the same as :meth:`finish_jobs`, from another thread while the event loop may be blocked."""
        return self.connector.run(core.finish_jobs, finished, worker_id=worker_id)

    def retry_jobs_in_thread(self, retries: Sequence[core.JobRetry], *, worker_id: int) -> dict[int, Status]:
        """Do the same as :meth:`retry_jobs`, from another thread while the event loop may be blocked."""
        run = self.connector.run
        try:
            return run(core.retry_jobs, retries, worker_id=worker_id)
        except exceptions.ConnectorException as error:
            if not is_lock_timeout(error):
                raise
        return run(core.retry_jobs, retries, worker_id=worker_id, keep_queueing_locks=False)

    # Upkeep

    async def rescue_jobs(self, *, max_rescues: int) -> list[core.RescuedJob]:
        """Take back orphaned jobs: running jobs whose worker is no longer registered.

        If another session's open transaction has taken a queueing lock, the jobs go back without their queueing locks.
        """
        return await self._take_back(core.rescue_jobs, max_rescues=max_rescues)

    async def return_unknown_jobs(
        self, *, worker_id: int, known_ids: Collection[int], max_rescues: int
    ) -> list[core.RescuedJob]:
        """Take back jobs that the database assigns to a worker and that the worker does not know.

        Queueing locks are handled as in :meth:`rescue_jobs`.
        """
        arguments: dict[str, Any] = {"worker_id": worker_id, "known_ids": known_ids}
        # Usually there are none. This look costs the server a fifth of the statement that returns them.
        if not await self.connector.run_async(core.list_unknown_jobs, **arguments):
            return []
        return await self._take_back(core.return_unknown_jobs, max_rescues=max_rescues, **arguments)

    async def _take_back(
        self, operation: Callable[..., list[core.RescuedJob]], **arguments: Any
    ) -> list[core.RescuedJob]:
        take_back = functools.partial(self.refused_rows.collect, operation, limit=_RESCUED_AT_ONCE, **arguments)
        try:
            return await self._follow_async(take_back())
        except exceptions.ConnectorException as error:
            if not is_lock_timeout(error):
                raise
        return await self._follow_async(take_back(options=_WITHOUT_QUEUEING_LOCKS))

    async def sweep_parked_jobs(self, start: str | None = None) -> core.Sweep:
        """Release jobs that are parked behind a lock without a holder, a few locks per call."""
        sweep, _ = await self._follow_async(
            self.refused_rows.work_around(core.sweep_parked_jobs, limit=_SWEPT_AT_ONCE, start=start)
        )
        return sweep

    async def unpark_resumed_jobs(self, limit: int = CHANGED_AT_ONCE) -> int:
        """Let some jobs without a lock go on that were parked because of their queue. Return their number."""
        return len(await self._follow_async(self.refused_rows.collect(core.unpark_resumed_jobs, limit=limit)))

    async def free_locks_of_paused(self, queue: str) -> int:
        """Take their locks from some jobs of a paused queue that have not started, and return the number of jobs."""
        return len(await self._change_some_async(None, core.free_locks_of_paused, queue=queue))

    async def get_pauses(self) -> core.Pauses:
        """Return for each paused queue the seconds until its pause ends, or ``None`` if it ends by hand."""
        return await self.connector.run_async(core.get_pauses)

    async def find_unswept(self) -> core.Unswept:
        """Return what there is for a worker to take back and to sweep."""
        return await self.connector.run_async(core.find_unswept)

    async def has_parked_jobs(self) -> bool:
        """Return whether there are parked jobs."""
        return await self.connector.run_async(core.has_parked_jobs)

    async def take_unserved_slots(self) -> int:
        """Take the slots of some unclaimed jobs whose queue no worker serves, and return the number of jobs."""
        return len(await self._change_some_async(None, core.take_unserved_slots))

    async def sweep_lines(self, start: tuple[str, str] | None = None) -> core.LineSweep:
        """Open the limits that have room and jobs in line, a few keys per call."""
        return await self.connector.run_async(core.sweep_lines, start=start)

    async def sweep_limits(self, after: str | None = None) -> core.LimitSweep:
        """Delete starts and hold-offs that have no effect any more, a bounded number per call."""
        return await self.connector.run_async(core.sweep_limits, after=after)

    async def sweep_workflows(
        self, *, after_step: int | None = None, after_group: int | None = None
    ) -> core.WorkflowSweep:
        """Decide on steps and groups of workflows that no event frees, a few per call."""
        sweep = await self.connector.run_async(core.sweep_workflows, after_step=after_step, after_group=after_group)
        self.refused_rows.note(sweep.refused)
        return sweep

    # Workers

    async def define_limits(self, definitions: Sequence[core.LimitDefinition]) -> list[str]:
        """Store the limits of the code, and return those of which workers had stored other numbers.

        What an operator has set stays.
        """
        known = await self.connector.run_async(core.list_defined_limits)
        changed: set[str] = set()
        for start in range(0, len(definitions), _DEFINED_AT_ONCE):
            part = definitions[start : start + _DEFINED_AT_ONCE]
            changed.update(await self.connector.run_async(core.define_limits, part))
        return sorted(changed.intersection(known))

    async def register_worker(
        self, terms: core.WorkerTerms | None = None, identity: core.WorkerIdentity | None = None
    ) -> int:
        """Add a worker, alive as of now, and return its id.

        Parameters
        ----------
        terms:
            Limits by which other workers judge this one. By default they judge it as a worker of 3.x, by their
            ``legacy_worker_timeout``.
        identity:
            What the worker says of itself.
        """
        return await self.connector.run_async(core.register_worker, terms or core.WorkerTerms(), identity)

    async def unregister_worker(self, worker_id: int) -> None:
        """Remove a worker that has stopped."""
        await self.connector.run_async(core.unregister_worker, worker_id)

    async def start_waiting(self, *, worker_id: int, queues: tuple[str, ...] | None) -> core.Waiting | None:
        """Mark a worker as waiting for notifications of jobs in these queues. Return ``None`` if it is unregistered."""
        if not await self.connector.run_async(core.start_waiting, worker_id=worker_id, queues=queues):
            return None
        return await self.connector.run_async(core.read_unaware)

    async def stop_waiting(self, *, worker_id: int) -> None:
        """Mark a worker as polling, so that it needs no notifications."""
        await self.connector.run_async(core.stop_waiting, worker_id=worker_id)

    async def call_all_workers(self, *, job_id: int) -> None:
        """Notify all workers that wait for jobs of this job's queue."""
        await self.connector.run_async(core.call_all_workers, job_id=job_id)

    async def have_ended_before(self, *, transaction: int) -> bool:
        """Return true if all transactions older than the one with this number have ended."""
        return await self.connector.run_async(core.have_ended_before, transaction=transaction)

    async def update_heartbeat(self, worker_id: int) -> bool:
        """Record a heartbeat of a worker. Return false if the worker is no longer registered."""
        return await self.connector.run_async(core.update_heartbeat, worker_id)

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        """Remove workers whose last heartbeat is older than this many seconds, and return their ids.

        If a worker's own ``stalled_worker_timeout`` is longer, that value counts. Workers prune each other by
        themselves and more carefully: they watch a late worker for a while, whereas this method decides at once by the
        database's clock.
        """
        pruned: list[int] = []
        while some := await self._change_some_async(
            None, core.prune_stalled_workers, seconds_since_heartbeat=seconds_since_heartbeat
        ):
            pruned += some
        return pruned

    async def list_late_workers(
        self, *, worker_id: int, heartbeat_interval: float, stalled_timeout: float
    ) -> list[core.LateWorker]:
        """Return the other workers with a late heartbeat. See :func:`procrastinate.core.list_late_workers`."""
        return await self.connector.run_async(
            core.list_late_workers,
            worker_id=worker_id,
            heartbeat_interval=heartbeat_interval,
            stalled_timeout=stalled_timeout,
        )

    async def remove_dead_workers(self, dead: Sequence[core.LateWorker]) -> list[int]:
        """Remove workers that proved dead after a watch, and return the ids of the removed ones."""
        removed = await self._follow_async(self.refused_rows.in_parts(core.remove_dead_workers, dead))
        return [worker_id for part in removed for worker_id in part]


def _earlier(one: float | None, other: float | None) -> float | None:
    return min((seconds for seconds in (one, other) if seconds is not None), default=None)
