"""How a worker can be set up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

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
        check_count("concurrency", self.concurrency, at_least=1)
        check_count("max_rescues", self.max_rescues, at_least=0)
        if self.max_jobs is not None:
            check_count("max_jobs", self.max_jobs, at_least=1)
        for name in (
            "fetch_job_polling_interval",
            "abort_job_polling_interval",
            "update_heartbeat_interval",
            "stalled_worker_timeout",
        ):
            _check_seconds(name, getattr(self, name))
        if self.shutdown_graceful_timeout is not None:
            _check_seconds("shutdown_graceful_timeout", self.shutdown_graceful_timeout, or_none=True)
        if self.stalled_worker_timeout <= self.update_heartbeat_interval:
            raise ValueError(
                f"stalled_worker_timeout ({self.stalled_worker_timeout} s) must be longer than "
                f"update_heartbeat_interval ({self.update_heartbeat_interval} s): "
                "a worker would be taken for dead between two heartbeats"
            )


def _check_kind(name: str, value: Any, kind: type, wanted: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {wanted}, not {value!r}")


def check_switch(name: str, value: Any) -> None:
    """Refuse what is neither True nor False."""
    if value not in (True, False):  # "0" is true
        raise TypeError(f"{name} must be True or False, not {value!r}")


def check_count(name: str, value: Any, *, at_least: int) -> None:
    """Refuse what is not a whole number of at least so many."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, not {value}")


def _check_seconds(name: str, value: Any, *, or_none: bool = False) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not (value > 0 or (or_none and value == 0)):
        raise ValueError(f"{name} must be {'0 seconds or more' if or_none else 'more than 0 seconds'}, not {value}")


def read_delete_jobs(value: str | DeleteJobCondition | None) -> DeleteJobCondition:
    """Which finished jobs are deleted; none by default."""
    try:
        return DeleteJobCondition(value or DeleteJobCondition.NEVER)
    except ValueError:
        choices = ", ".join(condition.value for condition in DeleteJobCondition)
        raise ValueError(f"delete_jobs must be one of {choices}, not {value!r}") from None


def read_queues(queues: Iterable[str] | None) -> tuple[str, ...] | None:
    """The queues without repetition; ``None`` for all. A lone string would be read letter by letter."""
    if isinstance(queues, str):
        raise TypeError(f"queues takes a list of names, not the string {queues!r}: write queues=[{queues!r}]")
    if not isinstance(queues, Iterable | None):
        raise TypeError(f"queues takes a list of names, not {queues!r}")
    names = tuple(queues or ())
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"queues takes a list of names, and {name!r} is none")
    return tuple(dict.fromkeys(names)) or None
