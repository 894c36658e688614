"""What is read to explain why a job does not run. Each function is one bounded query, which a plain role may make."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from procrastinate.core.enums import EventType, Readiness, Status
from procrastinate.core.inspection.bounds import first_rows, moment
from procrastinate.core.inspection.workers import is_alive
from procrastinate.core.pauses import lasts
from procrastinate.core.tables import (
    HAS_KNOWN_STATUS,
    due_at,
    errors,
    event_literal,
    events,
    holds_lock,
    is_parked,
    is_ready,
    is_upcoming,
    jobs,
    paused_queues,
    status_literal,
    task_lists,
    weight_of,
    workers,
)
from procrastinate.core.watchers import age, seconds_between

COUNTED = 10_000
POLL = 5.0
"""Seconds. The default of a worker's option ``fetch_job_polling_interval``."""
_MOST_WORKERS = 1_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobFacts:
    """A row of a job, with what its history says."""

    id: int
    queue_name: str
    task_name: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    status: Status
    scheduled_at: datetime.datetime | None
    is_future: bool
    is_never: bool
    is_ready: bool
    attempts: int
    abort_requested: bool
    worker_id: int | None
    readiness: int
    finished_at: datetime.datetime | None
    last_event_at: datetime.datetime | None
    age: float | None
    """Seconds since the last event that is not in the future."""
    error_class: str | None
    rescues: int
    limit_name: str | None
    limit_key: str | None
    limit_weight: int
    was_returned: bool
    """True if a worker has returned it to the queue, for a retry or for another worker."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkerFacts:
    """A registered worker."""

    id: int
    is_alive: bool
    silent_for: float
    name: str | None
    queues: tuple[str, ...] | None
    """``None`` if the worker does not say them, and empty for all queues."""
    concurrency: int | None
    state: str | None
    running: int | None
    running_ids: tuple[int, ...] | None
    fetched_ahead: int | None
    lost_threads: int | None
    unwritten: int | None
    listens: bool | None
    loop_lag: float | None
    """Seconds for which the event loop had no turn at the last heartbeat."""
    heartbeat_interval: float | None
    fetch_lag: float | None
    error_code: str | None
    error_after_fetch: bool
    heartbeat_at: datetime.datetime | None
    task_list: str | None
    paused_queues: tuple[str, ...] | None
    """The paused queues that the worker knew of at its last heartbeat."""

    @property
    def is_of_3x(self) -> bool:
        """True if the worker is of Procrastinate 3.x. It says nothing of itself, and only its numbers are positive."""
        return self.heartbeat_interval is None and self.id > 0

    def serves(self, queue: str) -> bool:
        """Return true if the worker takes jobs of this queue, or does not say which."""
        return not self.queues or queue in self.queues

    @property
    def free(self) -> int | None:
        """The number of free slots at the last heartbeat, or ``None`` if the worker does not say."""
        if self.concurrency is None or self.running is None:
            return None
        return self.concurrency - self.running - (self.lost_threads or 0)

    def was_free_after(self, since: datetime.datetime, seconds: float, queue: str) -> bool:
        """Return true if a heartbeat at least so long after a time said that the worker was free for the queue."""
        if self.heartbeat_at is None or self.state == "draining" or self.error_after_fetch or self.fetched_ahead:
            return False
        if not self.serves(queue) or queue in (self.paused_queues or ()) or not (self.free or 0) > 0:
            return False
        return (self.heartbeat_at - since).total_seconds() > seconds


def _seconds(time: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    return sa.cast(sa.extract("epoch", time), sa.Double())


_past = events.alias("past")
_LAST_EVENT = (
    sa.select(sa.func.max(_past.c.at)).where(_past.c.job_id == jobs.c.id, _past.c.at <= sa.func.now()).scalar_subquery()
)
_LAST_ERROR = (
    sa.select(errors.c.exception_class)
    .where(errors.c.job_id == jobs.c.id)
    .order_by((errors.c.id + sa.literal_column("0")).desc())
    .limit(sa.literal_column("1"))
    .scalar_subquery()
)
_returned = events.alias("returned")
_WAS_RETURNED = sa.exists().where(
    _returned.c.job_id == jobs.c.id, _returned.c.type == event_literal(EventType.DEFERRED_FOR_RETRY)
)
_JOB = sa.select(
    jobs.c.id,
    jobs.c.queue_name,
    jobs.c.task_name,
    jobs.c.priority,
    jobs.c.lock,
    jobs.c.queueing_lock,
    jobs.c.status,
    moment(jobs.c.scheduled_at).label("scheduled_at"),
    sa.func.coalesce(jobs.c.scheduled_at > sa.func.now(), sa.false()).label("is_future"),
    sa.func.coalesce(jobs.c.scheduled_at == sa.literal_column("'infinity'::timestamptz"), sa.false()).label("is_never"),
    sa.func.coalesce(is_ready(), sa.false()).label("is_ready"),
    jobs.c.attempts,
    jobs.c.abort_requested,
    jobs.c.worker_id,
    jobs.c.readiness,
    moment(jobs.c.finished_at).label("finished_at"),
    moment(_LAST_EVENT).label("last_event_at"),
    (_seconds(sa.func.now()) - _seconds(_LAST_EVENT)).label("age"),
    _LAST_ERROR.label("error_class"),
    jobs.c.rescues,
    jobs.c.limit_name,
    jobs.c.limit_key,
    weight_of().label("limit_weight"),
    _WAS_RETURNED.label("was_returned"),
)


def read_job(connection: sa.Connection, job_id: int) -> JobFacts | None:
    """Return a job."""
    row = connection.execute(_JOB.where(jobs.c.id == job_id, HAS_KNOWN_STATUS)).one_or_none()
    return None if row is None else _job(row)


def read_unknown_status(connection: sa.Connection, job_id: int) -> str | None:
    """Return the status of a job if this release does not know it."""
    status = sa.select(sa.cast(jobs.c.status, sa.Text)).where(jobs.c.id == job_id, sa.not_(HAS_KNOWN_STATUS))
    return connection.execute(status).scalar_one_or_none()


def read_holder(connection: sa.Connection, lock: str) -> JobFacts | None:
    """Return the job that has the lock."""
    row = connection.execute(_JOB.where(jobs.c.lock == lock, holds_lock()).limit(1)).one_or_none()
    return None if row is None else _job(row)


def _job(row: Any) -> JobFacts:
    return JobFacts(**{**row._mapping, "status": Status(row.status)})


_WORKERS = (
    sa.select(
        workers.c.id,
        is_alive().label("is_alive"),
        age(workers.c.last_heartbeat).label("silent_for"),
        *(
            workers.c[name]
            for name in (
                "name", "queues", "concurrency", "state", "running", "running_ids", "fetched_ahead", "lost_threads",
                "unwritten", "listens", "heartbeat_interval", "task_list", "paused_queues",
            )
        ),
        seconds_between(workers.c.loop_beat_at, workers.c.last_heartbeat).label("loop_lag"),
        seconds_between(workers.c.last_fetch_at, workers.c.last_heartbeat).label("fetch_lag"),
        workers.c.last_error_code.label("error_code"),
        sa.func.coalesce(
            workers.c.last_error_at > sa.func.coalesce(workers.c.last_fetch_at, workers.c.started_at), sa.false()
        ).label("error_after_fetch"),
        moment(workers.c.last_heartbeat).label("heartbeat_at"),
    )
    .order_by(workers.c.id)
    .limit(_MOST_WORKERS)
)  # fmt: skip


def read_workers(connection: sa.Connection) -> tuple[WorkerFacts, ...]:
    """Return the registered workers, at most 1,000."""
    found = []
    for row in connection.execute(_WORKERS):
        values = dict(row._mapping)
        for name in ("queues", "running_ids", "paused_queues"):
            # Plain SQL may have stored NULL in an array.
            values[name] = None if values[name] is None else tuple(one for one in values[name] if one is not None)
        found.append(WorkerFacts(**values))
    return tuple(found)


def read_pause(connection: sa.Connection, queue: str) -> Any:
    """Return the pause of the queue, if it lasts: its reason, by whom, since when, and until when."""
    return connection.execute(
        sa.select(
            paused_queues.c.reason,
            paused_queues.c.paused_by,
            moment(paused_queues.c.paused_at).label("since"),
            moment(paused_queues.c.paused_until).label("until"),
        ).where(paused_queues.c.queue_name == queue, lasts())
    ).one_or_none()


def first_of_line(line: sa.ColumnElement[bool]) -> sa.Subquery:
    """Return the first 10,001 jobs of a line. Those before a job are the first ones among them.

    A condition on the rows of the table instead would walk on to the end of the line, which may have a million.
    """
    rows = sa.select(jobs.c.id, jobs.c.priority).where(line).order_by(jobs.c.priority.desc(), jobs.c.id)
    return first_rows(rows, COUNTED + 1, "first")


def starts_before(first: sa.Subquery, job: JobFacts) -> sa.ColumnElement[bool]:
    """Return whether a job of the line comes before this one."""
    return sa.or_(first.c.priority > job.priority, sa.and_(first.c.priority == job.priority, first.c.id < job.id))


def _ready_in_queue(job: JobFacts) -> sa.ColumnElement[bool]:
    return is_ready() & (jobs.c.queue_name == job.queue_name)


def _parked_at_lock(job: JobFacts) -> sa.ColumnElement[bool]:
    return is_parked() & (jobs.c.lock == job.lock)


def count_of(connection: sa.Connection, first: sa.Subquery, *conditions: sa.ColumnElement[bool]) -> int:
    """Return how many of these rows meet the conditions."""
    return connection.execute(sa.select(sa.func.count()).select_from(first).where(*conditions)).scalar_one()


def count_in_front(connection: sa.Connection, job: JobFacts) -> int:
    """Return the number of ready jobs of the queue that start before the job, at most 10,001."""
    first = first_of_line(_ready_in_queue(job))
    return count_of(connection, first, starts_before(first, job))


def count_due_in_front(connection: sa.Connection, job: JobFacts) -> int:
    """Return the number of due jobs that a promotion examines before the job, at most 10,001."""
    mine = jobs.alias("mine")
    place = sa.select(due_at(mine)).where(mine.c.id == job.id).scalar_subquery()
    rows = (
        sa.select(jobs.c.id, jobs.c.priority, (due_at() < place).label("is_due_before"))
        .where(is_upcoming(), due_at() <= place)
        .order_by(due_at(), jobs.c.priority.desc(), jobs.c.id)
    )
    first = first_rows(rows, COUNTED + 1, "first")
    return count_of(connection, first, sa.or_(first.c.is_due_before, starts_before(first, job)))


def count_line(connection: sa.Connection, job: JobFacts) -> int:
    """Return the number of parked jobs that get the lock before the job, at most 10,001."""
    first = first_of_line(_parked_at_lock(job))
    return count_of(connection, first, starts_before(first, job))


def count_overtaking(connection: sa.Connection, job: JobFacts) -> int:
    """Return the number of jobs that start before the job and were deferred after it, of the first 10,001.

    They wait for its lock if it is parked, and else in its queue.
    """
    is_parked_job = job.readiness == Readiness.PARKED
    first = first_of_line(_parked_at_lock(job) if is_parked_job else _ready_in_queue(job))
    return count_of(connection, first, starts_before(first, job), first.c.id > job.id)


def read_task_lists(connection: sa.Connection, serving: Collection[WorkerFacts]) -> dict[str, frozenset[str]]:
    """Return the names of tasks in each list of these workers, by hash. A list that is not stored is missing."""
    hashes = {worker.task_list for worker in serving if worker.task_list}
    rows = connection.execute(sa.select(task_lists.c.hash, task_lists.c.tasks).where(task_lists.c.hash.in_(hashes)))
    return {hash: frozenset(tasks) for hash, tasks in rows}


def workers_know_task(lists: dict[str, frozenset[str]], serving: Collection[WorkerFacts], task_name: str) -> bool:
    """Return true if one of these workers knows the task or does not say which it knows, or if there is no worker."""
    known = [lists.get(worker.task_list or "") for worker in serving]
    return not known or any(tasks is None or task_name in tasks for tasks in known)


def find_waiting_for_queueing_lock(connection: sa.Connection, queueing_lock: str) -> int | None:
    """Return the waiting job that has this queueing lock."""
    return connection.execute(
        sa.select(jobs.c.id).where(jobs.c.queueing_lock == queueing_lock, jobs.c.status == status_literal(Status.TODO))
    ).scalar_one_or_none()
