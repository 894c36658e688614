"""The job that is explained, with the facts that several checks need. Each fact is read once."""

from __future__ import annotations

import dataclasses
import datetime
import functools

import sqlalchemy as sa

from procrastinate.core.enums import Readiness, Status
from procrastinate.core.health import clock_difference
from procrastinate.core.inspection import facts, limit_facts
from procrastinate.core.inspection.facts import JobFacts, WorkerFacts, workers_know_task
from procrastinate.core.inspection.limit_facts import LimitFacts
from procrastinate.core.inspection.ready_since import Movement, read_movement, read_version
from procrastinate.core.inspection.workflow_facts import StepFacts, read_step


@dataclasses.dataclass
class Case:
    """A job, and what is known of its surroundings."""

    connection: sa.Connection
    now: datetime.datetime
    job_id: int
    job: JobFacts | None
    revisions: tuple[str, ...] = ()
    """The revisions of the schema that this program knows, oldest first. Empty if the program does not say."""

    @property
    def row(self) -> JobFacts:
        """The job, which exists."""
        assert self.job is not None
        return self.job

    @property
    def state(self) -> str:
        """Where the job is on its way."""
        job = self.row
        if job.status is Status.DOING:
            return "doing"
        if job.status is Status.ABORTING:
            return "legacy"
        if job.status is not Status.TODO:
            return "ended"
        if job.readiness not in list(Readiness):
            return "broken"
        if job.readiness == Readiness.WAITS_FOR_OTHERS:
            return "step"
        if job.is_ready:
            return "ready"
        if job.readiness == Readiness.PARKED:
            return "parked"
        if job.readiness == Readiness.IN_LINE:
            return "in line"
        return "future" if job.is_future else "due"

    @functools.cached_property
    def unknown_status(self) -> str | None:
        """The status of a job that is not found because this release does not know its status."""
        return facts.read_unknown_status(self.connection, self.job_id)

    @functools.cached_property
    def workers(self) -> tuple[WorkerFacts, ...]:
        """All registered workers."""
        return facts.read_workers(self.connection)

    @property
    def alive(self) -> list[WorkerFacts]:
        """The workers that are not silent."""
        return [worker for worker in self.workers if worker.is_alive]

    @property
    def serving(self) -> list[WorkerFacts]:
        """The lively workers that take jobs of this queue."""
        return [worker for worker in self.alive if worker.serves(self.row.queue_name)]

    def know_task(self) -> bool:
        """Return true if a worker that serves the queue knows the task or does not say, or if the queue has none."""
        return workers_know_task(self._lists_of_tasks, self.serving, self.row.task_name)

    @functools.cached_property
    def _lists_of_tasks(self) -> dict[str, frozenset[str]]:
        return facts.read_task_lists(self.connection, self.serving)

    @functools.cached_property
    def clock_difference(self) -> float:
        """By how many seconds the clock of this machine is ahead of the database's."""
        return clock_difference(self.connection)

    @functools.cached_property
    def movement(self) -> Movement:
        """The newest events and heartbeats."""
        return read_movement(self.connection)

    @functools.cached_property
    def ready_since(self) -> datetime.datetime | None:
        """Since when the job is ready, at the latest. ``None`` if nothing tells it."""
        version = read_version(self.connection, self.row)
        return None if version is None else self.movement.ready_since(version)

    @functools.cached_property
    def step(self) -> StepFacts | None:
        """The workflow of the job, if the job is a step of one."""
        return read_step(self.connection, self.job_id)

    @functools.cached_property
    def limit(self) -> LimitFacts | None:
        """What holds for the job's key of its limit. ``None`` if no worker has defined the limit."""
        assert self.row.limit_name is not None
        key = self.row.limit_key or ""
        return limit_facts.read_limit(self.connection, self.row.limit_name, key, self.row.queue_name)

    @functools.cached_property
    def holder(self) -> JobFacts | None:
        """The job that has the lock of this job."""
        return None if self.row.lock is None else facts.read_holder(self.connection, self.row.lock)
