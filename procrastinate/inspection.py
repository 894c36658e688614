"""Look at the queue: what waits, what runs, what failed and why, as ``app.inspect``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from procrastinate._checks.ids import asked_id
from procrastinate.alembic.revisions import known_revisions
from procrastinate.connector import BaseConnector
from procrastinate.core import KeptLog, doctor, inspection
from procrastinate.core.doctor import Diagnosis, DoctorLimits
from procrastinate.core.inspection import (
    Explanation,
    Failures,
    JobDetails,
    JobSearch,
    JobsPage,
    JobState,
    Locks,
    Overview,
    Queues,
    Schedules,
    System,
    Tasks,
    Workers,
)

__all__ = ["DoctorLimits", "Inspect", "JobSearch", "JobState"]

P = ParamSpec("P")
R = TypeVar("R")


class Inspect:
    """Reads the state of the queue, available as ``app.inspect``. The pages of the dashboard show the same answers.

    Each method is one short transaction. It answers within a fraction of a second on a table of ten million rows,
    because it stops after a fixed number of rows. Its answer says if there are more.

    With a ``read_connector`` of the app, a replica answers. :meth:`explain`, :meth:`system` and :meth:`diagnose` are
    about the primary and ask it.

    Each method raises ``ConnectorException`` if the database cannot be reached, refuses the query, or takes longer than
    two seconds for a statement. With an :class:`~procrastinate.testing.InMemoryConnector`, each raises
    ``NotImplementedError``.
    """

    def __init__(self, connector: BaseConnector) -> None:
        self._connector = connector

    @property
    def on_primary(self) -> Inspect:
        """The same reads, answered by the primary only. Useful for an app with a ``read_connector``."""
        return Inspect(self._connector.get_primary_connector())

    def run(self, load: Callable[Concatenate[sa.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a function of :mod:`procrastinate.core.inspection` from synchronous code."""
        return self._connector.run(load, *args, **kwargs)

    async def run_async(self, load: Callable[Concatenate[sa.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Asynchronous version of :meth:`run`."""
        return await self._connector.run_async(load, *args, **kwargs)

    def overview(self) -> Overview:
        """Return the number of jobs in each state, the last hour by minute, and the number of workers."""
        return self.run(inspection.load_overview)

    async def overview_async(self) -> Overview:
        """Asynchronous version of :meth:`overview`."""
        return await self.run_async(inspection.load_overview)

    def jobs(
        self, search: JobSearch | None = None, *, limit: int = 50, after: tuple[str, ...] | None = None
    ) -> JobsPage:
        """Return a page of jobs.

        Parameters
        ----------
        search:
            Which jobs. ``None`` means all, from the newest.
        limit:
            The most jobs to return.
        after:
            The ``next_place`` of the page before.
        """
        return self.run(inspection.list_jobs_page, search or JobSearch(), limit=limit, after=after)

    async def jobs_async(
        self, search: JobSearch | None = None, *, limit: int = 50, after: tuple[str, ...] | None = None
    ) -> JobsPage:
        """Asynchronous version of :meth:`jobs`."""
        return await self.run_async(inspection.list_jobs_page, search or JobSearch(), limit=limit, after=after)

    def job(self, job_id: int) -> JobDetails | None:
        """Return everything about a job: its history, errors, result and lock. ``None`` if there is no such job."""
        return self.run(inspection.load_job, asked_id(job_id))

    async def job_async(self, job_id: int) -> JobDetails | None:
        """Asynchronous version of :meth:`job`."""
        return await self.run_async(inspection.load_job, asked_id(job_id))

    def logs(self, job_id: int) -> tuple[KeptLog, ...] | None:
        """Return what the newest 20 runs of a job logged, newest first. ``None`` if there is no such job.

        Only tasks with ``keep_logs=True`` keep logs.
        """
        return self.run(inspection.load_job_logs, asked_id(job_id))

    async def logs_async(self, job_id: int) -> tuple[KeptLog, ...] | None:
        """Asynchronous version of :meth:`logs`."""
        return await self.run_async(inspection.load_job_logs, asked_id(job_id))

    def explain(self, job_id: int) -> Explanation:
        """Return why a job does not run, with stable codes, and what was excluded.

        A check that fails, for example for want of a right, is a line of the answer.
        """
        return self.run(inspection.explain_job, asked_id(job_id), revisions=known_revisions())

    async def explain_async(self, job_id: int) -> Explanation:
        """Asynchronous version of :meth:`explain`."""
        return await self.run_async(inspection.explain_job, asked_id(job_id), revisions=known_revisions())

    def queues(self, known: Collection[str] = ()) -> Queues:
        """Return the queues that have unfinished jobs, and those that ``known`` names."""
        return self.run(inspection.load_queues, known)

    async def queues_async(self, known: Collection[str] = ()) -> Queues:
        """Asynchronous version of :meth:`queues`."""
        return await self.run_async(inspection.load_queues, known)

    def tasks(self) -> Tasks:
        """Return the tasks with their unfinished jobs, and how the last ended jobs went."""
        return self.run(inspection.load_tasks)

    async def tasks_async(self) -> Tasks:
        """Asynchronous version of :meth:`tasks`."""
        return await self.run_async(inspection.load_tasks)

    def failures(self) -> Failures:
        """Return the newest errors in groups of errors that are alike."""
        return self.run(inspection.load_failures)

    async def failures_async(self) -> Failures:
        """Asynchronous version of :meth:`failures`."""
        return await self.run_async(inspection.load_failures)

    def locks(self) -> Locks:
        """Return the locks that jobs wait for, and the job that holds each."""
        return self.run(inspection.load_locks)

    async def locks_async(self) -> Locks:
        """Asynchronous version of :meth:`locks`."""
        return await self.run_async(inspection.load_locks)

    def periodic(self, known: Collection[tuple[str, str]] = ()) -> Schedules:
        """Return the last ticks of each periodic task. ``known`` has pairs of a task's name and a periodic id."""
        return self.run(inspection.load_periodic, known)

    async def periodic_async(self, known: Collection[tuple[str, str]] = ()) -> Schedules:
        """Asynchronous version of :meth:`periodic`."""
        return await self.run_async(inspection.load_periodic, known)

    def workers(self) -> Workers:
        """Return the registered workers, and the ids of lost workers that still hold jobs."""
        return self.run(inspection.load_workers)

    async def workers_async(self) -> Workers:
        """Asynchronous version of :meth:`workers`."""
        return await self.run_async(inspection.load_workers)

    def system(self) -> System:
        """Return the sizes of the tables, and what the database allows this role to do."""
        return self.run(inspection.load_system)

    async def system_async(self) -> System:
        """Asynchronous version of :meth:`system`."""
        return await self.run_async(inspection.load_system)

    def diagnose(self, *, queues: Collection[str] = (), limits: DoctorLimits | None = None) -> Diagnosis:
        """Return everything that is wrong with the installation, the worst first.

        Parameters
        ----------
        queues:
            Names of queues that must have a worker, besides those with jobs.
        limits:
            The thresholds of the findings.
        """
        return self.run(doctor.diagnose, revisions=known_revisions(), queues=queues, limits=limits or DoctorLimits())

    async def diagnose_async(self, *, queues: Collection[str] = (), limits: DoctorLimits | None = None) -> Diagnosis:
        """Asynchronous version of :meth:`diagnose`."""
        return await self.run_async(
            doctor.diagnose, revisions=known_revisions(), queues=queues, limits=limits or DoctorLimits()
        )
