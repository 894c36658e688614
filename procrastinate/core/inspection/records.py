"""Frozen answers of the loads."""

from __future__ import annotations

import dataclasses
import datetime

from procrastinate.core.blocked_loops import seconds_blocked
from procrastinate.core.enums import EventType, Status
from procrastinate.core.inspection.bounds import Count
from procrastinate.core.job_states import WAITING, JobState, word_of
from procrastinate.core.rows import JobProgress


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Minute:
    """Jobs that ended within a minute, from ``at`` on."""

    at: datetime.datetime
    succeeded: int
    failed: int
    other: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """The queue at a glance, by the database's clock.

    ``waiting`` and ``running`` count by state. ``ended`` counts the jobs of the last hour by state. ``minutes`` is that
    hour, oldest first, and ``minutes_since`` is the first minute whose jobs are all counted. ``stalled`` counts running
    jobs whose worker is silent or gone.
    """

    now: datetime.datetime
    waiting: dict[JobState, Count]
    running: Count
    ended: dict[JobState, Count]
    minutes: tuple[Minute, ...]
    minutes_since: datetime.datetime
    stalled: Count
    overdue: Count
    oldest_overdue_at: datetime.datetime | None
    workers_alive: int
    workers_silent: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ListedJob:
    """A job in a list.

    ``args`` is JSON text, or ``None`` if the arguments are large. ``scheduled_at`` is ``None`` for a time that Python
    cannot hold, and ``never_due`` is true if that time is ``infinity``. The error is that of the last
    attempt that failed.
    """

    id: int
    state: JobState
    queue_name: str
    task_name: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    args: str | None
    attempts: int
    abort_requested: bool
    worker_id: int | None
    scheduled_at: datetime.datetime | None
    never_due: bool
    deferred_at: datetime.datetime | None
    started_at: datetime.datetime | None
    finished_at: datetime.datetime | None
    error_class: str | None
    error_message: str | None

    @property
    def word(self) -> str:
        """The word for the state of the job. An unsent signal has its own, ``waiting_for_signal``."""
        return word_of(self.state, self.task_name)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobsPage:
    """A page of jobs.

    ``next_place`` continues the list, and is ``None`` at its end. ``searched`` is the number of rows that the filter
    examined, if it stopped before the end.
    """

    now: datetime.datetime
    jobs: tuple[ListedJob, ...]
    next_place: tuple[str, ...] | None
    searched: int | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """An error of an attempt. The first attempt is number 1. Long texts lose their middle."""

    attempt: int
    worker_id: int | None
    at: datetime.datetime | None
    exception_class: str
    message: str
    traceback: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """An event in the history of a job."""

    type: EventType | None
    at: datetime.datetime | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour:
    """Another job that matters to a job: the holder of its lock, or an earlier job of the same task."""

    id: int
    state: JobState
    task_name: str
    queue_name: str
    worker_id: int | None
    finished_at: datetime.datetime | None

    @property
    def word(self) -> str:
        """The word for the state of the job. An unsent signal has its own, ``waiting_for_signal``."""
        return word_of(self.state, self.task_name)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HeldKey:
    """The unique key that a job took when it was deferred.

    ``until`` is ``start``, ``end`` or ``period``. ``expires_at`` is the end of the period. No replacement may delay the
    job beyond ``start_by``. ``is_held`` is false once the key is free.
    """

    key: str
    until: str
    expires_at: datetime.datetime | None
    start_by: datetime.datetime | None
    is_held: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobDetails:
    """All that is known of a job.

    ``args`` and ``result`` are JSON text, or ``None`` if they are too large to show. ``args_size`` is the stored size
    in bytes. ``errors`` and ``events`` are the newest ones, newest first. ``holder`` has the lock that the job waits
    for. ``line`` is the number of jobs in front of it for that lock, or behind it if it has the lock. ``unique_key`` is
    ``None`` if the job is not unique, or another job has taken its key. ``progress`` is what the run under way, or else
    the last one, says of itself. ``workflow_id`` is the workflow that it is a step of. ``meta`` is JSON text, or
    ``None`` without metadata. ``limit_name`` and ``limit_key`` are ``None`` without a limit. ``worker_is_alive`` says
    whether its worker is registered and not silent for longer than its timeout.
    """

    now: datetime.datetime
    job: ListedJob
    rescues: int
    args_size: int
    has_result: bool
    result: str | None
    errors: tuple[Attempt, ...]
    events: tuple[Event, ...]
    holder: Neighbour | None
    line: Count
    worker_heartbeat_at: datetime.datetime | None
    worker_is_alive: bool
    workflow_id: int | None
    step: str | None
    meta: str | None
    progress: JobProgress | None
    unique_key: HeldKey | None = None
    limit_name: str | None = None
    limit_key: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Paused:
    """The pause of a queue. ``until`` is ``None`` if it lasts until a person ends it."""

    since: datetime.datetime | None
    until: datetime.datetime | None
    by: str | None
    reason: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class QueueState:
    """A queue.

    ``oldest_ready_at`` is the time since which its oldest ready job waits, as far as jobs were counted. ``served_by``
    is the number of live workers that fetch from it, and ``slots`` the number of jobs that they can run at the same
    time. Both leave out workers of an older release, which do not tell their queues.
    """

    name: str
    ready: Count
    scheduled: Count
    blocked: Count
    limited: Count
    waiting_for_steps: Count
    running: Count
    oldest_ready_at: datetime.datetime | None
    pause: Paused | None
    served_by: int
    slots: int

    @property
    def counts(self) -> dict[JobState, Count]:
        """The unfinished jobs by state, as pages list them."""
        states = (*WAITING, JobState.RUNNING)
        return {state: getattr(self, state.value) for state in states}

    @property
    def has_waiting(self) -> bool:
        """True if a job waits in this queue, whatever it waits for."""
        return any(self.counts[state].number for state in WAITING)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Queues:
    """The queues with jobs that have not ended, and those that the caller named.

    ``is_more`` is true if others are left out. ``silent_on_queues`` counts live workers that do not tell their queues.
    """

    now: datetime.datetime
    queues: tuple[QueueState, ...]
    is_more: bool
    silent_on_queues: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TaskHour:
    """What workers tell of the runs of a task within the last hour. Times are upper bounds, in seconds.

    Half of the runs took at most ``median_run`` and waited at most ``median_wait``. Of 100 runs, 95 took at
    most ``longest_run`` and waited at most ``longest_wait``. ``None`` stands for a time that no run told, or
    that is longer than an hour.
    """

    succeeded: int
    failed: int
    retried: int
    median_run: float | None
    longest_run: float | None
    longest_wait: float | None
    median_wait: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TaskState:
    """A task: its unfinished jobs, its ended ones since ``Tasks.since`` with their times in seconds, and the last hour.

    ``retried`` is the number of runs that led to another run. ``hour`` is ``None`` if no worker told of a run.
    """

    name: str
    waiting: Count
    running: Count
    succeeded: int
    failed: int
    other: int
    retried: int
    median_seconds: float | None
    slowest_seconds: float | None
    last_ended_at: datetime.datetime | None
    hour: TaskHour | None

    @property
    def median_run(self) -> float | None:
        """The median of the last hour if it is known, or that of the window."""
        told = None if self.hour is None else self.hour.median_run
        return self.median_seconds if told is None else told


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tasks:
    """The tasks with jobs. The window reaches back to ``since``, and holds the last jobs that ended."""

    now: datetime.datetime
    since: datetime.datetime | None
    looked_at: Count
    tasks: tuple[TaskState, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Errors that are alike: the same class, and the same message with ``#`` in place of numbers and ids."""

    exception_class: str
    message: str
    count: int
    jobs: int
    tasks: tuple[str, ...]
    first_at: datetime.datetime | None
    last_at: datetime.datetime | None
    last_job_id: int
    still_failed: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Failures:
    """The newest errors in groups. ``looked_at`` errors were read, and the oldest of them is from ``since``."""

    now: datetime.datetime
    looked_at: Count
    since: datetime.datetime | None
    groups: tuple[Failure, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LockState:
    """A lock that jobs wait for. Without a holder, the next promotion by a worker decides who gets it.

    ``running_since`` is the start of the holder's run, and ``None`` for a holder that is ready.
    """

    lock: str
    waiting: Count
    holder: Neighbour | None
    running_since: datetime.datetime | None
    first_waiting_id: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Locks:
    """The locks with the longest lines, among ``looked_at`` jobs that wait for locks."""

    now: datetime.datetime
    looked_at: Count
    locks: tuple[LockState, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A tick of a periodic task. ``job_id`` is ``None`` if the tick was skipped, or if its job is deleted."""

    at: datetime.datetime | None
    job_id: int | None
    status: Status | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """A periodic task, and its last ticks, newest first."""

    task_name: str
    periodic_id: str
    ticks: tuple[Tick, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Schedules:
    """The periodic tasks that the caller named, and those that have left ticks."""

    now: datetime.datetime
    schedules: tuple[Schedule, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkerState:
    """A worker.

    ``is_alive`` is false if it is silent for longer than its own timeout. ``holds`` counts the jobs that the
    database names for it. The other values are what the worker says of itself. They are ``None`` for a worker of an
    older release, and as old as its last heartbeat. ``queues`` is empty for a worker of all queues.
    """

    id: int
    is_registered: bool
    is_alive: bool
    last_heartbeat_at: datetime.datetime | None
    holds: Count
    name: str | None
    hostname: str | None
    pid: int | None
    version: str | None
    queues: tuple[str, ...] | None
    concurrency: int | None
    listens: bool | None
    started_at: datetime.datetime | None
    state: str | None
    running: int | None
    fetched_ahead: int | None
    lost_threads: int | None
    unwritten: int | None
    heartbeat_interval: float | None
    loop_beat_at: datetime.datetime | None
    last_fetch_at: datetime.datetime | None
    last_error_code: str | None
    last_error_at: datetime.datetime | None

    @property
    def loop_blocked_for(self) -> float | None:
        """Seconds for which an async task had blocked the event loop at the last heartbeat, or ``None``."""
        if self.loop_beat_at is None or self.last_heartbeat_at is None:
            return None
        lag = (self.last_heartbeat_at - self.loop_beat_at).total_seconds()
        return seconds_blocked(lag, self.heartbeat_interval)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """The registered workers, and those that hold jobs without being registered."""

    now: datetime.datetime
    workers: tuple[WorkerState, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TableSize:
    """A table of the queue, with PostgreSQL's own estimates. ``size`` includes its indexes, in bytes.

    ``rows`` is ``None`` before the first ANALYZE, which autovacuum also does.
    """

    name: str
    rows: int | None
    dead_rows: int
    size: int
    last_vacuum_at: datetime.datetime | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServerState:
    """What the head of each page says of the database.

    ``may_change_jobs`` is false if the role may not update jobs. ``paused_queues`` is the number of pauses that last.
    """

    now: datetime.datetime
    database: str
    is_standby: bool
    is_read_only: bool
    may_change_jobs: bool
    paused_queues: Count

    @property
    def takes_changes(self) -> bool:
        """True if this role can change jobs here."""
        return self.may_change_jobs and not (self.is_standby or self.is_read_only)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """The database of the queue."""

    now: datetime.datetime
    server_version: str
    database: str
    schema: str | None
    revision: str | None
    is_standby: bool
    is_read_only: bool
    may_change_jobs: bool
    connections: int
    max_connections: int
    oldest_transaction_seconds: float | None
    tables: tuple[TableSize, ...]
