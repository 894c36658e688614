"""The worker: fetch, run, record, and the services beside it."""

from __future__ import annotations

from procrastinate.worker.command_settings import CommandSettings, WorkerDefaults, command_settings, worker_options
from procrastinate.worker.options import (
    ABORT_JOB_POLLING_INTERVAL,
    FETCH_JOB_POLLING_INTERVAL,
    UNKNOWN_TASK_TIMEOUT,
    WORKER_CONCURRENCY,
    WORKER_NAME,
    WorkerOptions,
)
from procrastinate.worker.supervisor import Supervisor
from procrastinate.worker.tether import Tether
from procrastinate.worker.worker import Worker

__all__ = [
    "ABORT_JOB_POLLING_INTERVAL",
    "FETCH_JOB_POLLING_INTERVAL",
    "UNKNOWN_TASK_TIMEOUT",
    "WORKER_CONCURRENCY",
    "WORKER_NAME",
    "CommandSettings",
    "Supervisor",
    "Tether",
    "Worker",
    "WorkerDefaults",
    "WorkerOptions",
    "command_settings",
    "worker_options",
]
