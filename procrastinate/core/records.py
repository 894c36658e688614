"""The frozen values that go into the operations and come out of them."""

from __future__ import annotations

import dataclasses
import datetime

from procrastinate.core.enums import Status


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NewJob:
    """A job to be deferred.

    ``args`` is the text of a JSON object: whoever calls has serialised it, so that every driver,
    whatever it thinks of JSON, stores the same.
    """

    queue_name: str
    task_name: str
    args: str
    priority: int = 0
    lock: str | None = None
    queueing_lock: str | None = None
    scheduled_at: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredJob:
    """A row of ``procrastinate_jobs``, with ``args`` as the text of a JSON object."""

    id: int
    status: Status
    queue_name: str
    task_name: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    args: str
    scheduled_at: datetime.datetime | None
    attempts: int
    abort_requested: bool
    worker_id: int | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FinishedJob:
    """The outcome of a job that a worker ran. ``attempts`` is the number it was fetched with."""

    id: int
    attempts: int
    status: Status
    delete: bool = False

    @property
    def status_text(self) -> str:
        """The status as PostgreSQL spells it."""
        return self.status.value


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobRetry:
    """A job that goes back to wait, from the worker that ran it. ``None`` leaves a value as it is.

    It may run again at ``retry_at``, or in ``retry_in`` seconds by the database's clock; at once without either.
    """

    id: int
    attempts: int
    retry_at: datetime.datetime | None = None
    retry_in: float | None = None
    priority: int | None = None
    queue_name: str | None = None
    lock: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """What a promotion did.

    ``promoted`` jobs may now be fetched. ``again`` says that due jobs were left to look at.
    ``next_due_in`` is the time in seconds, by the database's clock, until the next waiting job falls due;
    ``None`` when none waits for its time.
    """

    promoted: int
    again: bool
    next_due_in: float | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RescuedJob:
    """A job taken back from a worker that is gone, and the status that it has now."""

    id: int
    queue_name: str
    task_name: str
    status: Status


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobCounts:
    """How many jobs share a name (of a queue, a task or a lock), in all and by status."""

    name: str
    jobs_count: int
    todo: int
    doing: int
    succeeded: int
    failed: int
    cancelled: int
    aborted: int
