"""What a task can know about the job that it runs for."""

from __future__ import annotations

import dataclasses
import enum
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from procrastinate.jobs import Job

if TYPE_CHECKING:
    from procrastinate.app import App
    from procrastinate.tasks import Task


class AbortReason(enum.Enum):
    """Why a job is asked to stop."""

    USER_REQUEST = "user_request"
    """Somebody asked for it: the job should raise :class:`~procrastinate.exceptions.JobAborted`."""
    SHUTDOWN = "shutdown"
    """The worker stops. A job with a retry strategy runs again."""
    TIMEOUT = "timeout"
    """The task's timeout has passed. The run has failed already, whatever the task does now."""


@dataclasses.dataclass(kw_only=True)
class JobResult:
    """How long a run took, in seconds since 1970, and what it returned. For the log only."""

    start_timestamp: float
    end_timestamp: float | None = None
    result: Any = None

    def duration(self, current_timestamp: float) -> float | None:
        """Seconds from the start to the end, or until now."""
        return (self.end_timestamp or current_timestamp) - self.start_timestamp

    def as_dict(self) -> dict[str, Any]:
        """As it goes into the ``extra`` of a log record."""
        values = {"start_timestamp": self.start_timestamp, "duration": self.duration(time.time())}
        if self.end_timestamp is not None:
            values |= {"end_timestamp": self.end_timestamp, "result": self.result}
        return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobContext:
    """Given as first argument to tasks declared with ``pass_context=True``, and to middleware.

    Parameters
    ----------
    app:
        The app that the worker runs.
    worker_name, worker_queues:
        As the worker was started; ``None`` for all queues.
    job:
        As it was fetched: ``job.attempts`` counts the runs before this one.
    start_timestamp:
        When the run began, in seconds since 1970.
    additional_context:
        A copy of what the worker was started with, for this job alone.
    """

    app: App
    worker_name: str | None = None
    worker_queues: Iterable[str] | None = None
    job: Job
    start_timestamp: float = dataclasses.field(default_factory=time.time)
    additional_context: dict[str, Any] = dataclasses.field(default_factory=dict)
    abort_reason: Callable[[], AbortReason | None] = lambda: None
    """Call it: why the job should stop, or ``None`` to go on."""

    @property
    def task(self) -> Task[Any, Any, Any]:
        """The task that runs."""
        return self.app.tasks[self.job.task_name]

    @property
    def queues_display(self) -> str:
        """The worker's queues, for a person to read."""
        return queues_display(self.worker_queues)

    def should_abort(self) -> bool:
        """Whether the job is asked to stop. A sync task that can stop halfway asks now and then."""
        return self.abort_reason() is not None

    def evolve(self, **changes: Any) -> JobContext:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def queues_display(queues: Iterable[str] | None) -> str:
    """Queues, for a person to read."""
    return "all queues" if queues is None else f"queues {', '.join(queues)}"
