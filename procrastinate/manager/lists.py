"""Listing part of the job manager: jobs, and counts by queue, task and lock."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from procrastinate import core
from procrastinate._checks.amounts import read_count
from procrastinate._checks.ids import asked_id, asked_place
from procrastinate._job import Job
from procrastinate.core.defaults import LARGEST_COUNT
from procrastinate.core.enums import Status
from procrastinate.manager.operation_calls import OperationCalls


class JobLists(OperationCalls):
    """The operations that list jobs, and that count jobs by queue, task and lock."""

    def list_jobs(
        self,
        id: int | None = None,
        queue: str | None = None,
        task: str | None = None,
        status: str | None = None,
        lock: str | None = None,
        queueing_lock: str | None = None,
        worker_id: int | None = None,
        *,
        limit: int | None = None,
        after_id: int | None = None,
        connection: Any | None = None,
    ) -> list[Job]:
        """Return the jobs that match all filters, ordered by id.

        Parameters
        ----------
        status:
            The value of a :class:`Status`, such as ``"todo"``.
        limit, after_id:
            Return at most ``limit`` jobs, and only jobs with an id greater than ``after_id``. Use both to read a long
            list in pages.
        """
        chosen = _job_filter(id, queue, task, status, lock, queueing_lock, worker_id)
        return self._jobs(self._run(connection, core.list_jobs, chosen, **_page(limit, after_id)))

    async def list_jobs_async(
        self,
        id: int | None = None,
        queue: str | None = None,
        task: str | None = None,
        status: str | None = None,
        lock: str | None = None,
        queueing_lock: str | None = None,
        worker_id: int | None = None,
        *,
        limit: int | None = None,
        after_id: int | None = None,
        connection: Any | None = None,
    ) -> list[Job]:
        """Asynchronous version of :meth:`list_jobs`."""
        chosen = _job_filter(id, queue, task, status, lock, queueing_lock, worker_id)
        stored = await self._run_async(connection, core.list_jobs, chosen, **_page(limit, after_id))
        return self._jobs(stored)

    def list_queues(
        self,
        queue: str | None = None,
        task: str | None = None,
        status: str | None = None,
        lock: str | None = None,
        *,
        connection: Any | None = None,
    ) -> list[dict[str, Any]]:
        """Return one dict for each queue, with ``name``, ``jobs_count`` and a count for each status."""
        return _dicts(self._run(connection, core.count_by_queue, _job_filter(None, queue, task, status, lock)))

    async def list_queues_async(
        self,
        queue: str | None = None,
        task: str | None = None,
        status: str | None = None,
        lock: str | None = None,
        *,
        connection: Any | None = None,
    ) -> list[dict[str, Any]]:
        """Asynchronous version of :meth:`list_queues`."""
        return _dicts(
            await self._run_async(connection, core.count_by_queue, _job_filter(None, queue, task, status, lock))
        )

    def list_tasks(
        self,
        queue: str | None = None,
        task: str | None = None,
        status: str | None = None,
        lock: str | None = None,
        *,
        connection: Any | None = None,
    ) -> list[dict[str, Any]]:
        """Return counts of jobs for each task, in the form of :meth:`list_queues`."""
        return _dicts(self._run(connection, core.count_by_task, _job_filter(None, queue, task, status, lock)))

    async def list_tasks_async(
        self,
        queue: str | None = None,
        task: str | None = None,
        status: str | None = None,
        lock: str | None = None,
        *,
        connection: Any | None = None,
    ) -> list[dict[str, Any]]:
        """Asynchronous version of :meth:`list_tasks`."""
        return _dicts(
            await self._run_async(connection, core.count_by_task, _job_filter(None, queue, task, status, lock))
        )

    def list_locks(
        self,
        queue: str | None = None,
        task: str | None = None,
        status: str | None = None,
        lock: str | None = None,
        *,
        connection: Any | None = None,
    ) -> list[dict[str, Any]]:
        """Return counts of jobs for each lock, in the form of :meth:`list_queues`."""
        return _dicts(self._run(connection, core.count_by_lock, _job_filter(None, queue, task, status, lock)))

    async def list_locks_async(
        self,
        queue: str | None = None,
        task: str | None = None,
        status: str | None = None,
        lock: str | None = None,
        *,
        connection: Any | None = None,
    ) -> list[dict[str, Any]]:
        """Asynchronous version of :meth:`list_locks`."""
        return _dicts(
            await self._run_async(connection, core.count_by_lock, _job_filter(None, queue, task, status, lock))
        )


def _job_filter(
    id: int | None,
    queue: str | None,
    task: str | None,
    status: str | Status | None,
    lock: str | None,
    queueing_lock: str | None = None,
    worker_id: int | None = None,
) -> core.JobFilter:
    return core.JobFilter(
        id=None if id is None else asked_id(id),
        queue_name=queue,
        task_name=task,
        status=None if status is None else Status(status),
        lock=lock,
        queueing_lock=queueing_lock,
        worker_id=None if worker_id is None else asked_id(worker_id),
    )


def _page(limit: int | None, after_id: int | None) -> dict[str, Any]:
    return {
        "limit": None if limit is None else min(read_count("limit", limit, at_least=0), LARGEST_COUNT),
        "after_id": None if after_id is None else asked_place(after_id),
    }


def _dicts(counts: Iterable[core.JobCounts]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(count) for count in counts]
