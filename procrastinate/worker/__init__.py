"""The worker: fetch, run, record, and the services around these."""

from __future__ import annotations

from procrastinate.worker.processes.command_settings import (
    CommandSettings,
    WorkerDefaults,
    command_settings,
    worker_options,
)
from procrastinate.worker.processes.supervisor import Supervisor
from procrastinate.worker.processes.supervisor_socket import SupervisorSocket
from procrastinate.worker.worker import Worker
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
    "worker_options",
]
