"""The worker: fetch, run, record, and the services around these.

Programs that only defer jobs need its options and not its parts, which are imported at their first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from procrastinate.worker.processes.command_settings import (
    CommandSettings,
    WorkerDefaults,
    command_settings,
    with_lists,
    worker_options,
)
from procrastinate.worker.worker_settings import (
    ABORT_JOB_POLLING_INTERVAL,
    FETCH_JOB_POLLING_INTERVAL,
    LEGACY_WORKER_TIMEOUT,
    MAX_RESCUES,
    STALLED_WORKER_TIMEOUT,
    UNKNOWN_TASK_TIMEOUT,
    WORKER_CONCURRENCY,
    WORKER_NAME,
    WorkerOptions,
)

if TYPE_CHECKING:
    from procrastinate.worker.processes.supervisor import Supervisor
    from procrastinate.worker.processes.supervisor_socket import SupervisorSocket
    from procrastinate.worker.worker import Worker

__all__ = [
    "ABORT_JOB_POLLING_INTERVAL",
    "FETCH_JOB_POLLING_INTERVAL",
    "LEGACY_WORKER_TIMEOUT",
    "MAX_RESCUES",
    "STALLED_WORKER_TIMEOUT",
    "UNKNOWN_TASK_TIMEOUT",
    "WORKER_CONCURRENCY",
    "WORKER_NAME",
    "CommandSettings",
    "Supervisor",
    "SupervisorSocket",
    "Worker",
    "WorkerDefaults",
    "WorkerOptions",
    "command_settings",
    "with_lists",
    "worker_options",
]

_LOADED_AT_FIRST_USE = {
    "Supervisor": "processes.supervisor",
    "SupervisorSocket": "processes.supervisor_socket",
    "Worker": "worker",
}


if not TYPE_CHECKING:  # a type checker would take any name for an attribute

    def __getattr__(name: str) -> Any:
        if name not in _LOADED_AT_FIRST_USE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_LOADED_AT_FIRST_USE[name]}"), name)
