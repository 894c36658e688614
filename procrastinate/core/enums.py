"""Enumerations of the tables: statuses, event types, readiness."""

from __future__ import annotations

import enum


class Status(enum.StrEnum):
    """Status of a job. The values are those of the PostgreSQL type ``procrastinate_job_status``.

    A status equals its text (``Status.TODO == "todo"``), because the status of a :class:`~procrastinate.jobs.Job` is
    text.
    """

    TODO = "todo"
    """Waits for a worker, for its scheduled time or for its lock."""
    DOING = "doing"
    """Runs on a worker."""
    SUCCEEDED = "succeeded"
    """The task returned."""
    FAILED = "failed"
    """The task raised and is not retried."""
    CANCELLED = "cancelled"
    """Cancelled before it started."""
    ABORTING = "aborting"
    """Legacy value that keeps old rows readable. Nothing writes it."""
    ABORTED = "aborted"
    """Aborted on request while it ran."""

    # Print ``Status.TODO``, as before the enum was text.
    __str__ = enum.Enum.__str__
    __format__ = enum.Enum.__format__


class EventType(enum.Enum):
    """Type of a job event. The values are those of ``procrastinate_job_event_type``."""

    DEFERRED = "deferred"
    STARTED = "started"
    DEFERRED_FOR_RETRY = "deferred_for_retry"
    FAILED = "failed"
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"
    ABORT_REQUESTED = "abort_requested"
    ABORTED = "aborted"
    SCHEDULED = "scheduled"
    RETRIED = "retried"


_EVENT_TYPES = {one.value: one for one in EventType}


def event_type_of(stored: str | None) -> EventType | None:
    """Return the type of a stored event, or ``None`` if it has none, or one that only a later release knows."""
    return None if stored is None else _EVENT_TYPES.get(stored)


BECAME_READY = (EventType.DEFERRED, EventType.DEFERRED_FOR_RETRY, EventType.RETRIED, EventType.SCHEDULED)
"""Events from which a job waits to start."""


class Readiness(enum.IntEnum):
    """State of a ``todo`` job on its way to a fetch (``ARCHITECTURE.md``, "Readiness").

    A job without schedule, lock and limit is always ready and stays ``UNDECIDED``.
    """

    UNDECIDED = 0
    """Ready if the job has no schedule and no lock. Otherwise a promotion decides once the job is due."""
    PROMOTED = 1
    """Due and holds its lock: a fetch may claim it."""
    PARKED = 2
    """Due, and waits behind the holder of its lock."""
    IN_LINE = 3
    """Due, and waits for a slot of its limit."""
    WAITS_FOR_OTHERS = 5
    """A step of a workflow that waits for other jobs. Its schedule is ``infinity`` until they have ended."""


class ReportKind(enum.Enum):
    """Kind of a report of a run, as ``procrastinate_job_reports`` stores it."""

    PROGRESS = "progress"
    LOG = "log"
    STACK = "stack"
