"""How a worker can be set up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from procrastinate._checks.amounts import read_count, read_optional_seconds, read_seconds
from procrastinate._checks.names import check_name
from procrastinate.core import WorkerTerms
from procrastinate.core.liveness import STALLED_TIMEOUT
from procrastinate.jobs import DeleteJobCondition
from procrastinate.middleware import TaskMiddleware, WorkerMiddleware, check_callable, check_worker_middleware

WORKER_NAME = "worker"
WORKER_CONCURRENCY = 1
FETCH_JOB_POLLING_INTERVAL = 5.0
ABORT_JOB_POLLING_INTERVAL = 5.0
UPDATE_HEARTBEAT_INTERVAL = 10.0
STALLED_WORKER_TIMEOUT = STALLED_TIMEOUT
MAX_RESCUES = 5
UNKNOWN_TASK_TIMEOUT = 3600.0


class WorkerOptions(TypedDict, total=False):
    """The keyword arguments of ``app.run_worker(...)``; ``worker_defaults`` may have them, too."""

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


_COUNTS = {"concurrency": 1, "max_rescues": 0, "max_jobs": 1}
"""What counts something, and the least that it may be."""
_INTERVALS = (
    "fetch_job_polling_interval",
    "abort_job_polling_interval",
    "update_heartbeat_interval",
    "stalled_worker_timeout",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """A worker's options, checked. All times are in seconds."""

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

    @property
    def terms(self) -> WorkerTerms:
        """How the others are to judge the worker."""
        return WorkerTerms(
            heartbeat_interval=self.update_heartbeat_interval, stalled_timeout=self.stalled_worker_timeout
        )

    def __post_init__(self) -> None:
        _check_kind("name", self.name, str, "a text")
        _check_kind("additional_context", self.additional_context, Mapping, "a dict")
        for name in ("wait", "listen_notify", "install_signal_handlers", "store_errors", "prefetch"):
            check_switch(name, getattr(self, name))
        check_callable(self.task_middleware, argument="task_middleware")
        check_worker_middleware(self.worker_middleware)
        for name, at_least in _COUNTS.items():
            if getattr(self, name) is not None or name != "max_jobs":
                self._keep(name, read_count(name, getattr(self, name), at_least=at_least))
        for name in _INTERVALS:
            self._keep(name, read_seconds(name, getattr(self, name)))
        name = "unknown_task_timeout"
        self._keep(name, read_seconds(name, self.unknown_task_timeout, may_be_zero=True))
        name = "shutdown_graceful_timeout"
        self._keep(name, read_optional_seconds(name, getattr(self, name), may_be_zero=True))
        if self.stalled_worker_timeout <= self.update_heartbeat_interval:
            raise ValueError(
                f"stalled_worker_timeout ({self.stalled_worker_timeout:g} s) must be longer than "
                f"update_heartbeat_interval ({self.update_heartbeat_interval:g} s): "
                "a worker would be taken for dead between two heartbeats"
            )

    def _keep(self, name: str, value: Any) -> None:
        """Set the value as it was read: a plain number, and a bounded one."""
        object.__setattr__(self, name, value)


def _check_kind(name: str, value: Any, kind: type, wanted: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {wanted}, not {value!r}")


def check_switch(name: str, value: Any) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool) and value not in (0, 1):  # "0" is true
        raise TypeError(f"{name} must be True or False, not {value!r}")


def read_delete_jobs(value: str | DeleteJobCondition | None) -> DeleteJobCondition:
    """Which finished jobs are deleted; none by default."""
    try:
        return DeleteJobCondition(value or DeleteJobCondition.NEVER)
    except ValueError:
        choices = ", ".join(condition.value for condition in DeleteJobCondition)
        raise ValueError(f"delete_jobs must be one of {choices}, not {value!r}") from None


def read_queues(queues: Iterable[str] | None) -> tuple[str, ...] | None:
    """The queues without repetition; ``None`` for all. A lone string would be read letter by letter.

    Raises
    ------
    InvalidJob
        No queue can have such a name.
    TypeError
        It is no list of texts.
    """
    if isinstance(queues, str):
        raise TypeError(f"queues takes a list of names, not the string {queues!r}: write queues=[{queues!r}]")
    if not isinstance(queues, Iterable | None):
        raise TypeError(f"queues takes a list of names, not {queues!r}")
    names = tuple(queues or ())
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"queues takes a list of names, and {name!r} is none")
        check_name("queue", name)
    return tuple(dict.fromkeys(names)) or None
