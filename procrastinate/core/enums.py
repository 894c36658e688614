"""The words that the tables are written in: statuses, event types, readiness."""

from __future__ import annotations

import enum


class Status(enum.StrEnum):
    """Where a job stands. The values are those of the PostgreSQL type ``procrastinate_job_status``.

    A status equals its text (``Status.TODO == "todo"``), for a :class:`~procrastinate.jobs.Job` has that one.
    """

    TODO = "todo"
    """Waits for a worker (perhaps for its time, or behind its lock)."""
    DOING = "doing"
    """A worker runs it."""
    SUCCEEDED = "succeeded"
    """The task returned."""
    FAILED = "failed"
    """The task raised, and will not be tried again."""
    CANCELLED = "cancelled"
    """Ended by request before it started."""
    ABORTING = "aborting"
    """Legacy value, kept so that old rows can be read. Nothing writes it."""
    ABORTED = "aborted"
    """Stopped on request while it ran."""

    # Printed as before it was text: ``Status.TODO``.
    __str__ = enum.Enum.__str__
    __format__ = enum.Enum.__format__


class EventType(enum.Enum):
    """What happened to a job. The values are those of ``procrastinate_job_event_type``."""

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


class Readiness(enum.IntEnum):
    """How far a ``todo`` job has come on its way to being fetched (``ARCHITECTURE.md``, "Readiness").

    A job without schedule and lock is ready by its row alone and stays ``UNDECIDED``.
    """

    UNDECIDED = 0
    """Ready by its row alone; or, with a schedule or a lock, still to be looked at when due."""
    PROMOTED = 1
    """Its time has come and it holds its lock: a fetch may take it."""
    PARKED = 2
    """Its time has come, and it waits behind the holder of its lock."""
