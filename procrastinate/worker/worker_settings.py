"""Options and settings of a worker."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from procrastinate._checks.amounts import read_count, read_optional_seconds, read_seconds
from procrastinate._checks.names import check_name, find_fault
from procrastinate._durations import setting
from procrastinate.core import WorkerTerms
from procrastinate.core.defaults import HEARTBEAT_INTERVAL, LARGEST_COUNT, STALLED_TIMEOUT
from procrastinate.jobs import DeleteJobCondition
from procrastinate.middleware import TaskMiddleware, WorkerMiddleware, check_callable, check_worker_middleware

WORKER_NAME = "worker"
WORKER_CONCURRENCY = 1
FETCH_JOB_POLLING_INTERVAL = 5.0
ABORT_JOB_POLLING_INTERVAL = 5.0
UPDATE_HEARTBEAT_INTERVAL = HEARTBEAT_INTERVAL
STALLED_WORKER_TIMEOUT = STALLED_TIMEOUT
MAX_RESCUES = 5
UNKNOWN_TASK_TIMEOUT = 3600.0
LEGACY_WORKER_TIMEOUT = 3600.0


class WorkerOptions(TypedDict, total=False):
    """Keyword arguments of ``app.run_worker(...)``, also valid in ``worker_defaults``."""

    queues: Iterable[str] | None
    name: str | None
    concurrency: int
    wait: bool
    fetch_job_polling_interval: float
    abort_job_polling_interval: float
    shutdown_graceful_timeout: float | None
    listen_notify: bool
    delete_jobs: str | DeleteJobCondition | None
    additional_context: dict[str, Any] | None
    install_signal_handlers: bool
    update_heartbeat_interval: float
    stalled_worker_timeout: float
    max_rescues: int
    max_jobs: int | None
    prefetch: bool
    task_middleware: list[TaskMiddleware] | None
    worker_middleware: list[WorkerMiddleware] | None
    store_errors: bool
    unknown_task_timeout: float
    legacy_worker_timeout: float
    wait_for_schema: bool


_COUNTS = {"concurrency": 1, "max_rescues": 0, "max_jobs": 1}
"""Options that are counts, with their minimum."""
_INTERVALS = (
    "fetch_job_polling_interval",
    "abort_job_polling_interval",
    "update_heartbeat_interval",
    "stalled_worker_timeout",
    "legacy_worker_timeout",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """Validated options of a worker. All times are in seconds."""

    queues: tuple[str, ...] | None
    name: str
    concurrency: int
    wait: bool
    fetch_job_polling_interval: float
    abort_job_polling_interval: float
    shutdown_graceful_timeout: float | None
    listen_notify: bool
    delete_jobs: DeleteJobCondition
    additional_context: dict[str, Any]
    install_signal_handlers: bool
    update_heartbeat_interval: float
    stalled_worker_timeout: float
    max_rescues: int
    max_jobs: int | None
    prefetch: bool
    task_middleware: tuple[TaskMiddleware, ...]
    worker_middleware: tuple[WorkerMiddleware, ...]
    store_errors: bool
    unknown_task_timeout: float
    legacy_worker_timeout: float
    wait_for_schema: bool

    @property
    def terms(self) -> WorkerTerms:
        """The terms by which other workers judge this one."""
        return WorkerTerms(
            heartbeat_interval=self.update_heartbeat_interval, stalled_timeout=self.stalled_worker_timeout
        )

    def __post_init__(self) -> None:
        _check_kind("name", self.name, str, "a string")
        if fault := find_fault(self.name):
            raise ValueError(f"name contains {fault}: {self.name!r}")
        _check_kind("additional_context", self.additional_context, Mapping, "a dict")
        for name in ("wait", "listen_notify", "install_signal_handlers", "store_errors", "prefetch", "wait_for_schema"):
            check_switch(name, getattr(self, name))
        check_callable(self.task_middleware, argument="task_middleware")
        check_worker_middleware(self.worker_middleware)
        for name, at_least in _COUNTS.items():
            if getattr(self, name) is not None or name != "max_jobs":
                # The row of the worker has them. A larger number means no less than the largest of its column.
                self._keep(name, min(read_count(name, getattr(self, name), at_least=at_least), LARGEST_COUNT))
        for name in _INTERVALS:
            self._keep(name, read_seconds(name, getattr(self, name)))
        name = "unknown_task_timeout"
        self._keep(name, read_seconds(name, self.unknown_task_timeout, may_be_zero=True))
        name = "shutdown_graceful_timeout"
        self._keep(name, read_optional_seconds(name, getattr(self, name), may_be_zero=True))
        if self.stalled_worker_timeout <= self.update_heartbeat_interval:
            raise ValueError(
                f"stalled_worker_timeout ({setting(self.stalled_worker_timeout)}) must be longer than "
                f"update_heartbeat_interval ({setting(self.update_heartbeat_interval)}): "
                "otherwise other workers take the worker for dead between two heartbeats"
            )

    def _keep(self, name: str, value: Any) -> None:
        """Set the parsed value: a plain, bounded number."""
        object.__setattr__(self, name, value)


def _check_kind(name: str, value: Any, kind: type, wanted: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {wanted}, not {value!r}")


def check_switch(name: str, value: Any) -> None:
    """Check that the value is True or False.

    Raises
    ------
    TypeError
        It is neither.
    """
    if not isinstance(value, bool) and value not in (0, 1):  # the string "0" is true
        raise TypeError(f"{name} must be True or False, not {value!r}")


def read_delete_jobs(value: str | DeleteJobCondition | None) -> DeleteJobCondition:
    """Return the condition for the deletion of finished jobs; by default, delete none.

    Raises
    ------
    ValueError
        The value is not a condition.
    """
    try:
        return DeleteJobCondition(value or DeleteJobCondition.NEVER)
    except ValueError:
        choices = ", ".join(condition.value for condition in DeleteJobCondition)
        raise ValueError(f"delete_jobs must be one of {choices}, not {value!r}") from None


def read_queues(queues: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the queue names without duplicates, or ``None`` for all queues.

    A plain string is refused: it would be read as a list of letters.

    Raises
    ------
    InvalidJob
        The name is invalid for a queue.
    TypeError
        The value is not an iterable of strings.
    """
    if isinstance(queues, str):
        raise TypeError(f"queues takes a list of names, not the string {queues!r}: write queues=[{queues!r}]")
    if not isinstance(queues, Iterable | None):
        raise TypeError(f"queues takes a list of names, not {queues!r}")
    names = tuple(queues or ())
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"queues takes a list of names, but {name!r} is not a name")
        check_name("queue", name)
    return tuple(dict.fromkeys(names)) or None
