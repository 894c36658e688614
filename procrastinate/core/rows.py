"""The frozen values that go into the operations and come out of them."""

from __future__ import annotations

import dataclasses
import datetime

from procrastinate.core.enums import EventType, Status


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
    """A row of ``procrastinate_jobs``, with ``args`` as the text of a JSON object.

    ``args`` is ``None`` if they were not read: see :mod:`procrastinate.core.arguments`.
    """

    id: int
    status: Status
    queue_name: str
    task_name: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    args: str | None
    scheduled_at: datetime.datetime | None
    attempts: int
    abort_requested: bool
    worker_id: int | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rank:
    """The place of a job in the order in which ready jobs start: by priority, the highest first, and then by id."""

    priority: int
    id: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkerTerms:
    """What a worker says of itself: the others judge it by this, and not by their own options.

    It beats every ``heartbeat_interval`` seconds, and is dead after ``stalled_timeout`` seconds of silence. ``None``:
    it does not say, and the options of the judge hold.
    """

    heartbeat_interval: float | None = None
    stalled_timeout: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LateWorker:
    """A worker whose heartbeat is late, as one look has found it.

    ``heartbeat`` is the time of its last beat, as a text that is only compared. ``age`` is the seconds since then by
    the database's clock, below zero where that clock was set back. ``has_jobs``: it holds running jobs.
    ``seen_at`` is the time of the look by the database's clock, in seconds since 1970.
    """

    id: int
    heartbeat: str
    age: float
    heartbeat_interval: float
    stalled_timeout: float
    has_jobs: bool
    seen_at: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A worker waits to be notified; transactions older than ``unaware_before`` may not know. ``is_settled``: none of
    them is under way.
    """

    unaware_before: int
    is_settled: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NewError:
    """The exception that ended an attempt: the path of its class, its message, and the traceback as text."""

    exception_class: str
    message: str
    traceback: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobError:
    """An attempt of a job that failed, as it is kept in ``procrastinate_errors``.

    The first attempt is number 1. ``worker_id`` is the worker that ran it.
    """

    attempt: int
    worker_id: int | None
    at: datetime.datetime | None
    exception_class: str
    message: str
    traceback: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredEvent:
    """Something that happened to a job."""

    type: EventType
    at: datetime.datetime | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredResult:
    """All that is known of a job: its row, when it ended, its return value as JSON text, its errors and its history."""

    job: StoredJob
    finished_at: datetime.datetime | None
    value: str | None
    errors: tuple[JobError, ...]
    events: tuple[StoredEvent, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a job has come.

    ``is_uncommitted``: the caller's own open transaction has deferred or changed it, so that no worker can take it yet.
    """

    status: Status
    is_uncommitted: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FetchedJob:
    """A job that a worker has fetched. ``attempts`` is the number it was fetched with."""

    id: int
    attempts: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FinishedJob:
    """The outcome of a job that a worker ran. ``attempts`` is the number it was fetched with.

    ``result`` is the return value as JSON text, where it is to be kept; ``announce`` tells those who wait for the job.
    """

    id: int
    attempts: int
    status: Status
    delete: bool = False
    result: str | None = None
    error: NewError | None = None
    announce: bool = False

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
    error: NewError | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """What a promotion did.

    ``promoted`` jobs may now be fetched, and ``parked`` ones wait behind the holder of their lock. ``again`` says that
    due jobs were left to look at; ``undecided`` of them were looked at and are as they were, since somebody holds a row
    on which it depends (``None``: nothing was looked at, for another worker was at it).
    ``next_due_in`` is the time in seconds, by the database's clock, until the next waiting job falls due;
    ``None`` when none waits for its time.
    ``had_turn``: no other session had the turn. Where one had it, ``first_due`` is the first of the due jobs.
    """

    promoted: int
    again: bool
    next_due_in: float | None
    parked: int = 0
    undecided: int | None = 0
    had_turn: bool = True
    first_due: int | None = None


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
