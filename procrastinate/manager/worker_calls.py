"""What a worker asks of the manager: work, and what keeps it and the others alive."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from procrastinate import core, exceptions
from procrastinate.core.errors import is_deadlock, is_lock_timeout, is_passing, is_unique_violation
from procrastinate.core.promote import PROMOTED_AT_ONCE, PROMOTED_WITHOUT_TURN
from procrastinate.jobs import Job, Status, UnreadableArguments, UnreadArguments
from procrastinate.manager.operation_calls import OperationCalls

_PROMOTION_TRIES = 3


class WorkerOperations(OperationCalls):
    """The operations of workers: always async, never on a connection of the user's."""

    async def promote_jobs(
        self, due_by: datetime.datetime | None = None, *, past: int = 0, without_turn: bool = False
    ) -> core.Promotion:
        """Make ready the waiting jobs whose time has come and whose lock is free; a bounded number at a time.

        Parameters
        ----------
        past:
            How many jobs the last promotion left undecided: so many more are looked at.
        due_by:
            What the time is, for tests that move the clock; the database's time by default.
        without_turn:
            Decide although another session may have the turn; on fewer jobs.
        """
        limit = past + (PROMOTED_WITHOUT_TURN if without_turn else PROMOTED_AT_ONCE)
        for _ in range(_PROMOTION_TRIES):
            try:
                return await self.connector.run_async(
                    core.promote_jobs, limit=limit, due_by=due_by, without_turn=without_turn
                )
            except exceptions.ConnectorException as error:
                if not (is_unique_violation(error) or is_deadlock(error)):
                    raise
        return core.Promotion(promoted=0, again=True, next_due_in=None, undecided=None, had_turn=not without_turn)

    async def fetch_jobs(
        self,
        queues: Iterable[str] | None,
        worker_id: int,
        limit: int,
        *,
        task_names: Collection[str] | None = None,
        after: core.Rank | None = None,
        with_arguments: bool = True,
    ) -> list[Job]:
        """Take up to ``limit`` ready jobs for a worker, in the order in which they should start.

        Parameters
        ----------
        task_names:
            Only the jobs of these tasks, for tests: it reads past all others.
        after:
            Where the last fetch ended: see :func:`procrastinate.core.fetch_jobs`.
        with_arguments:
            Read those that are not small, too. Without, such a job has
            :class:`~procrastinate.jobs.UnreadArguments`, for :meth:`read_arguments`.
        """
        stored = await self.connector.run_async(
            core.fetch_jobs,
            worker_id=worker_id,
            limit=limit,
            queues=None if queues is None else list(queues),
            task_names=None if task_names is None else list(task_names),
            after=after,
        )
        if all(one.args is not None for one in stored):
            return self._jobs(stored)
        return [await self._fetched_job(one, with_arguments) for one in stored]

    async def _fetched_job(self, stored: core.StoredJob, with_arguments: bool) -> Job:
        job = self._job(stored)
        if stored.args is not None:
            return job
        unread = job.evolve(task_kwargs=UnreadArguments())
        return await self.read_arguments(unread) if with_arguments else unread

    async def read_arguments(self, job: Job) -> Job:
        """Return a job that was fetched without its arguments, with them.

        They are :class:`~procrastinate.jobs.UnreadableArguments` if the database refuses to write them out.

        Raises
        ------
        ConnectorException
            The database did not answer, or may do so in a moment.
        """
        assert job.id is not None
        try:
            texts = await self.connector.run_async(core.read_arguments, [job.id])
        except exceptions.ConnectorException as error:
            if is_passing(error):
                raise
            return job.evolve(task_kwargs=UnreadableArguments(str(error)))
        return job.evolve(task_kwargs=self._arguments(texts.get(job.id)))

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Take the next job for a worker, whether it was ready or has just fallen due; ``None`` where there is none."""
        promotion = await self.promote_jobs()
        if not promotion.had_turn:
            await self.promote_jobs(without_turn=True)
        jobs = await self.fetch_jobs(queues, worker_id, limit=1)
        return jobs[0] if jobs else None

    async def finish_jobs(self, finished: Sequence[core.FinishedJob], *, worker_id: int) -> set[int]:
        """Record the outcomes of jobs that a worker holds, and return the ids of those that it still held."""
        return await self.connector.run_async(core.finish_jobs, finished, worker_id=worker_id)

    async def list_held_jobs(self, finished: Sequence[core.FinishedJob], *, worker_id: int) -> set[int]:
        """Those of the jobs that a worker still holds."""
        return await self.connector.run_async(core.list_held_jobs, finished, worker_id=worker_id)

    async def release_jobs(
        self, fetched: Sequence[core.FetchedJob], *, worker_id: int, delay: float | None = None
    ) -> dict[int, Status]:
        """Release jobs that a worker holds and has not started. No attempt is counted.

        Parameters
        ----------
        delay:
            Seconds until the jobs may start; ``None``: they are as ready as they were.

        Returns
        -------
        The new status of the jobs that the worker still held.

        Raises
        ------
        ConnectorException
            Whether they wait again is not known, and the call must not be made again.
        """
        run = self.connector.run_async
        try:
            return await run(core.release_jobs, fetched, worker_id=worker_id, delay=delay)
        except exceptions.ConnectorException as error:
            if not (is_lock_timeout(error) or is_unique_violation(error)):  # these were refused for certain
                raise
        return await run(core.release_jobs, fetched, worker_id=worker_id, delay=delay, keep_queueing_locks=False)

    def release_jobs_in_thread(self, fetched: Sequence[core.FetchedJob], *, worker_id: int) -> dict[int, Status]:
        """Do as :meth:`release_jobs`, from a thread beside the event loop, which may be blocked."""
        run = self.connector.run
        try:
            return run(core.release_jobs, fetched, worker_id=worker_id)
        except exceptions.ConnectorException as error:
            if not (is_lock_timeout(error) or is_unique_violation(error)):
                raise
        return run(core.release_jobs, fetched, worker_id=worker_id, keep_queueing_locks=False)

    async def retry_jobs(self, retries: Sequence[core.JobRetry], *, worker_id: int) -> dict[int, Status]:
        """Send jobs that a worker holds back to wait, and return the new status of those that it still held.

        Where somebody's open transaction has taken a queueing lock, they go back without theirs.
        """
        try:
            return await self.connector.run_async(core.retry_jobs, retries, worker_id=worker_id)
        except exceptions.ConnectorException as error:
            if not is_lock_timeout(error):
                raise
        return await self.connector.run_async(core.retry_jobs, retries, worker_id=worker_id, keep_queueing_locks=False)

    def finish_jobs_in_thread(self, finished: Sequence[core.FinishedJob], *, worker_id: int) -> set[int]:
        """Do as :meth:`finish_jobs`, from a thread beside the event loop, which may be blocked."""
        return self.connector.run(core.finish_jobs, finished, worker_id=worker_id)

    def retry_jobs_in_thread(self, retries: Sequence[core.JobRetry], *, worker_id: int) -> dict[int, Status]:
        """Do as :meth:`retry_jobs`, from a thread beside the event loop, which may be blocked."""
        run = self.connector.run
        try:
            return run(core.retry_jobs, retries, worker_id=worker_id)
        except exceptions.ConnectorException as error:
            if not is_lock_timeout(error):
                raise
        return run(core.retry_jobs, retries, worker_id=worker_id, keep_queueing_locks=False)

    # Upkeep

    async def rescue_jobs(self, *, max_rescues: int) -> list[core.RescuedJob]:
        """Take back the running jobs whose worker is not registered any more.

        Where somebody's open transaction has taken a queueing lock, they go back without theirs.
        """
        return await self._take_back(core.rescue_jobs, max_rescues=max_rescues)

    async def return_unknown_jobs(
        self, *, worker_id: int, known_ids: Collection[int], max_rescues: int
    ) -> list[core.RescuedJob]:
        """Take back the jobs that run for a worker, as the database has it, but of which it does not know; as
        :meth:`rescue_jobs`.
        """
        arguments: dict[str, Any] = {"worker_id": worker_id, "known_ids": known_ids, "max_rescues": max_rescues}
        return await self._take_back(core.return_unknown_jobs, **arguments)

    async def _take_back(
        self, operation: Callable[..., list[core.RescuedJob]], **arguments: Any
    ) -> list[core.RescuedJob]:
        try:
            return await self.connector.run_async(operation, **arguments)
        except exceptions.ConnectorException as error:
            if not is_lock_timeout(error):
                raise
        return await self.connector.run_async(operation, **arguments, keep_queueing_locks=False)

    async def sweep_parked_jobs(self, start: str | None = None) -> core.Sweep:
        """Look after jobs that wait behind a lock that nobody holds; some locks at a time."""
        return await self.connector.run_async(core.sweep_parked_jobs, start=start)

    # Workers

    async def register_worker(self, terms: core.WorkerTerms | None = None) -> int:
        """Add a worker, alive as of now, and return its id.

        Parameters
        ----------
        terms:
            How the others are to judge it; by their own options by default.
        """
        return await self.connector.run_async(core.register_worker, terms or core.WorkerTerms())

    async def unregister_worker(self, worker_id: int) -> None:
        """Remove a worker that has stopped."""
        await self.connector.run_async(core.unregister_worker, worker_id)

    async def start_waiting(self, *, worker_id: int, queues: tuple[str, ...] | None) -> core.Waiting | None:
        """Say that a worker waits to be notified of jobs in these queues; ``None`` where it is not registered."""
        if not await self.connector.run_async(core.start_waiting, worker_id=worker_id, queues=queues):
            return None
        return await self.connector.run_async(core.read_unaware)

    async def stop_waiting(self, *, worker_id: int) -> None:
        """Say that a worker looks for jobs by itself, and need not be notified of any."""
        await self.connector.run_async(core.stop_waiting, worker_id=worker_id)

    async def have_ended_before(self, *, transaction: int) -> bool:
        """Whether all transactions have ended that are older than the one of this number."""
        return await self.connector.run_async(core.have_ended_before, transaction=transaction)

    async def update_heartbeat(self, worker_id: int) -> bool:
        """Say that a worker is alive; False where it is no longer registered."""
        return await self.connector.run_async(core.update_heartbeat, worker_id)

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        """Remove the workers that have been silent for longer than these seconds, and return their ids.

        Workers do this without being asked, and with more care: they watch each other before they judge. This believes
        a single look at the database's clock. A worker whose own ``stalled_worker_timeout`` is longer is left alone.
        """
        return await self.connector.run_async(
            core.prune_stalled_workers, seconds_since_heartbeat=seconds_since_heartbeat
        )

    async def list_late_workers(
        self, *, worker_id: int, heartbeat_interval: float, stalled_timeout: float
    ) -> list[core.LateWorker]:
        """The other workers whose heartbeat is late, as :func:`procrastinate.core.list_late_workers` says."""
        return await self.connector.run_async(
            core.list_late_workers,
            worker_id=worker_id,
            heartbeat_interval=heartbeat_interval,
            stalled_timeout=stalled_timeout,
        )

    async def remove_dead_workers(self, dead: Sequence[core.LateWorker]) -> list[int]:
        """Remove workers that were watched and found dead, and return the ids of those that were removed."""
        return await self.connector.run_async(core.remove_dead_workers, dead)
